"""What has been measured: results.csv and its neighbours, tables, pages and pictures of them."""

"""What is to be run: tables, their rows, and the runs that these come to."""

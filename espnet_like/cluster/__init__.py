"""Arrays of jobs: the contract that every back end keeps, and the back ends.

Standard library only, and no import of what the jobs run: a submission starts at once.
"""

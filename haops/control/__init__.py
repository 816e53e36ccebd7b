"""What haops does to a cluster as a whole: bring it up, take it down, clean up, put right."""

"""What a drill found, for people (HTML, text) and for machines (JSON, JUnit XML)."""

"""Where events come from besides tills: data sets and files."""

"""The commands of `cti95598`, one a file."""

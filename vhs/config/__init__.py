"""Configurations: YAML files, typed keys, errors that name file, line and key."""

"""GenEval: instances, colours and relations of a picture against the metadata of its prompt."""

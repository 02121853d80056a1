"""Methods that a configuration chooses by name, one file a kind; see ``registry``."""

"""Methods that keys of the configuration choose, one file a kind; see ``registry``."""

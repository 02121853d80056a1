"""One file for each kind of message: fields, encoder, strict decoder."""

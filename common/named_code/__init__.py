"""Code that users name: found, loaded, and run only if it is this user's own."""

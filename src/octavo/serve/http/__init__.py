"""The service over HTTP: our own API, and the dialects that other clients speak. Knows only the `Service` protocol."""

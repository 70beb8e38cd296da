"""The service over gRPC: the Open Inference Protocol, version 2. Knows only the `Service` protocol."""

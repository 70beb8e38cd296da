"""One canonical Q/DQ ONNX graph, its lossless variants, and the checks on their structure."""

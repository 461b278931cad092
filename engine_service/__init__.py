"""The engine service: weights, kernels, KV cache and continuous batching behind one gRPC stream."""

"""What both services share: flags, errors and their gRPC statuses, the server's frame, model directories."""

"""The service that clients talk to: text, chats and stop strings on CPUs, in front of an engine."""

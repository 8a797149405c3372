"""What a model may call: built-in tools, MCP servers."""

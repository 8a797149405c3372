"""A server in front of models: OpenAI's API, Anthropic's, ollama's, a page."""

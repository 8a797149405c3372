"""Users of locust who ask in all ways, and leave in the middle of it.        locust -f with_locust.py --headless --host URL"""

import random

from locust import HttpUser, between, task

TALE = "Tell me a story about a fox."
TALK = {"model": "model", "messages": [{"role": "user", "content": TALE}], "max_tokens": 40}
BODIES = {
    "/v1/completions": {"prompt": TALE, "max_tokens": 40},
    "/v1/chat/completions": TALK,
    "/v1/messages": TALK,
    "/v1/responses": {"input": TALE, "max_output_tokens": 40},
    "/api/chat": {"model": "model", "messages": TALK["messages"], "options": {"num_predict": 40}},
    "/api/generate": {"model": "model", "prompt": TALE, "options": {"num_predict": 40}},
}


class Reader(HttpUser):
    wait_time = between(0, 0.05)

    def ask(self, stream):
        path = random.choice(list(BODIES))
        body = {**BODIES[path], "stream": stream}
        return self.client.post(path, json=body, stream=stream, name=f"{path} {'stream' * stream}", catch_response=True)

    @task(3)
    def whole(self):
        with self.ask(False) as response:
            response.raise_for_status()
            response.json()

    @task(3)
    def streamed(self):
        with self.ask(True) as response:
            response.raise_for_status()
            assert len(list(response.iter_lines())) > 3

    @task(4)
    def left(self):
        with self.ask(True) as response:
            response.raise_for_status()
            for line, _ in zip(response.iter_lines(), range(random.randrange(12))):
                assert isinstance(line, bytes)
            response.close()
            response.success()

    @task(1)
    def looked(self):
        self.client.get(random.choice(["/health", "/metrics", "/v1/models", "/api/tags"]))

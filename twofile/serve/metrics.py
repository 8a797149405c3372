"""Numbers for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

TIMES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """What was asked, written, and how long it took; what the models of a Shelf do now."""

    def __init__(self, shelf):
        self.shelf, self.registry = shelf, CollectorRegistry()
        made = {"namespace": "twofile", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered", ("path", "status"), **made)
        self.prompt = Counter("prompt_tokens", "Tokens of prompts", **made)
        self.cached = Counter("prompt_tokens_cached", "Of those, not read again", **made)
        self.new = Counter("generated_tokens", "Tokens written", **made)
        self.took = Histogram(
            "request_seconds", "From a request's beginning to its end", buckets=TIMES, **made
        )
        self.first = Histogram(
            "first_token_seconds",
            "From a text's beginning to its first token",
            buckets=TIMES,
            **made,
        )
        self.gap = Histogram(
            "token_seconds", "Mean time between a text's tokens", buckets=GAPS, **made
        )
        self.rate = Histogram(
            "text_tokens_per_second",
            "Tokens a second of a text",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
            **made,
        )
        self.registry.register(self)

    def answered(self, path, status, seconds):
        self.requests.labels(path, status).inc()
        self.took.observe(seconds)

    def wrote(self, writers):
        """Writers that are at their ends, or left."""
        for w in writers:
            if w.cached is None:
                continue  # it never began
            self.prompt.inc(w.n_prompt)
            self.cached.inc(w.cached)
            self.new.inc(w.count)
            began, first, last = w.clock
            if w.count:
                self.first.observe(first - began)
            if w.count > 1:
                self.gap.observe((last - first) / (w.count - 1))
                self.rate.observe((w.count - 1) / max(last - first, 1e-9))

    def collect(self):
        """What the models do now, for the registry."""
        what = {
            "texts_active": "Texts that have places",
            "texts_waiting": "Texts that wait for places",
            "pages": "Pages of the cache",
            "pages_free": "Of those, free; others are kept for who begins alike",
            "pages_held": "Of those, what texts that have places stand on",
        }
        gauges = {
            name: GaugeMetricFamily(f"twofile_{name}", about, labels=["model"])
            for name, about in what.items()
        }
        loaded = GaugeMetricFamily("twofile_model_loaded", "Whether it is open", labels=["model"])
        for entry in self.shelf.entries.values():
            model = entry.model
            loaded.add_metric([entry.name], int(model is not None))
            if model is None:
                continue
            scheduler, pages = model.scheduler, model.scheduler.pages
            with scheduler.mutex:
                active = list(scheduler.active.values())
                held = {node for job in active if job.text for node in job.text.nodes}
                waiting = len(scheduler.waiting) + len(scheduler.parked)
            found = {
                "texts_active": len(active),
                "texts_waiting": waiting,
                "pages": pages.count if pages else 0,
                "pages_free": len(pages.free) if pages else 0,
                "pages_held": len(held),
            }
            for name, value in found.items():
                gauges[name].add_metric([entry.name], value)
        return [*gauges.values(), loaded]

    def text(self):
        """All of it, as bytes."""
        return generate_latest(self.registry)

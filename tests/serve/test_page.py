"""The page at /: a browser without a window types, clicks and reads, in front of the real server and the bundled model."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.server import serving

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
expect = sync_api.expect

STORY = "Tell me a story about a fox and a hen."
NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"


# A relay stands between the browser and the server: it makes answers slow, breaks them off, wants a key.


class Relay(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Passing)
        self.port = port
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.as_it_is()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def as_it_is(self):
        self.pace, self.cut, self.gone, self.key, self.asked = 0, None, False, None, []

    def handle_error(self, request, client_address):
        """A browser that stops an answer closes its connection."""


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        relay = self.server
        if relay.gone:
            return self.hang_up()
        if body:
            relay.asked.append(json.loads(body))
        if relay.key and self.path != "/" and self.headers["authorization"] != f"Bearer {relay.key}":
            return self.refuse(401, {"message": "a key is needed", "type": "invalid_request_error"})
        upstream = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=60)
        headers = {"content-type": "application/json"} if body else {}
        upstream.request(self.command, self.path, body or None, headers)
        answer = upstream.getresponse()
        self.send_response(answer.status)
        for name in "content-type", "content-security-policy", "retry-after":
            if answer.getheader(name):
                self.send_header(name, answer.getheader(name))
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = 0
        for line in answer:
            self.chunk(line)
            events += line.startswith(b"data:")
            if events == relay.cut:
                return self.hang_up()
            time.sleep(relay.pace if line.startswith(b"data:") else 0)
        self.chunk(b"")
        upstream.close()

    do_POST = do_GET

    def refuse(self, status, error):
        body = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server():
    with serving("model.bin") as server:
        yield server


@pytest.fixture(scope="module")
def relays(server):
    relay = Relay(server.port)
    yield relay
    relay.shutdown()


@pytest.fixture
def relay(relays):
    relays.as_it_is()
    return relays


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)), None)
        if not found and not os.path.exists(playwright.chromium.executable_path):
            pytest.skip("needs a Chromium: install one, or python -m playwright install chromium")
        expect.set_options(timeout=15_000)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Tab:
    """A page with what it told the console, and what one does on it."""

    def __init__(self, page, url):
        self.page, self.errors = page, []
        page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.set_default_timeout(20_000)
        page.goto(url)
        self.say = page.locator("#say")
        self.go = page.locator("#go")
        self.answers = page.locator("article.assistant")
        self.mine = page.locator("article.user .body")
        self.stats = page.locator("article.assistant .stats")

    def button(self, name, **kwargs):
        return self.page.get_by_role("button", name=name, **kwargs)

    def send(self, text=STORY):
        self.say.fill(text)
        self.say.press("Enter")

    def talk(self, text=STORY):
        """Send, and wait until the answer is whole -> its text."""
        n = self.answers.count()
        self.send(text)
        return self.whole(n)

    def whole(self, n=0):
        expect(self.stats.nth(n)).to_contain_text("seed")
        expect(self.go).not_to_have_text("Stop")
        return self.answers.nth(n).locator(".body").inner_text()

    def set(self, **settings):
        self.button("Settings", exact=True).click()
        for name, value in settings.items():
            self.page.locator(f"#set-{name}").fill(str(value))
        self.button("Close settings").click()

    def titles(self):
        return self.page.locator("#list .open").all_inner_texts()

    def wide(self):
        """How far the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.fixture
def tabs(browser, relay):
    """A function that opens a tab; tabs of one context share what the browser keeps. No error on any console."""
    opened, contexts = [], []

    def tab(context=None, path="", **options):
        if context is None:
            context = browser.new_context(**{"viewport": {"width": 1100, "height": 720}, "reduced_motion": "reduce", **options})
            contexts.append(context)
        opened.append(Tab(context.new_page(), relay.url + path))
        return opened[-1]

    yield tab
    # what the network did is told by the browser too; it was the test's doing
    errors = [e for one in opened for e in one.errors if not e.startswith("Failed to load resource")]
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def tab(tabs):
    return tabs()


def chunk(delta, logprobs=None, finish=None):
    choice = {"index": 0, "delta": delta, "logprobs": logprobs and {"content": logprobs}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def scripted(tab, *chunks, done=True):
    """The next answers are these chunks, whatever is asked."""
    lines = [f"data: {json.dumps(c)}\n\n" for c in chunks] + ["data: [DONE]\n\n"] * done
    tab.page.route("**/v1/chat/completions", lambda r: r.fulfill(content_type="text/event-stream", body="".join(lines)))


def says(tab, text):
    """An answer with this text, as the page draws it when it is complete."""
    scripted(tab, chunk({"role": "assistant", "content": text[:5]}), chunk({"content": text[5:]}, finish="stop"))
    tab.talk("Hello")
    return tab.answers.last.locator(".body")


def refuses(tab, status, message, code=None, **headers):
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})
    answer = {"status": status, "headers": {"content-type": "application/json", **headers}, "body": body}
    tab.page.route("**/v1/chat/completions", lambda route: route.fulfill(**answer), times=1)


# conversations


def test_enter_sends_and_the_answer_streams_in(tab, relay):
    tab.set(seed=7)
    relay.pace = 0.02
    tab.send()
    expect(tab.go).to_have_text("Stop")
    expect(tab.answers.locator(".raw")).to_contain_text("Once")
    expect(tab.say).to_be_focused()
    expect(tab.answers).to_have_attribute("aria-busy", "true")
    assert tab.say.input_value() == ""
    relay.pace = 0
    text = tab.whole()
    (asked,) = relay.asked
    body = json.dumps({**asked, "stream": False, "stream_options": None}).encode()
    request = urllib.request.Request(relay.url + "v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        value = json.load(answer)
    assert text.split() == value["choices"][0]["message"]["content"].split()
    line = tab.stats.inner_text()
    assert f"{value['usage']['completion_tokens']} tokens" in line and "seed 7" in line
    assert re.search(r"[\d.]+ tokens/s · first after \d+\.\d\d s", line)
    expect(tab.page.locator("#title")).to_have_text(STORY)


def test_shift_enter_is_a_newline_and_a_word_being_composed_is_not_sent(tab, relay):
    tab.say.fill("one")
    tab.say.press("Shift+Enter")
    tab.page.keyboard.type("two")
    assert tab.say.input_value() == "one\ntwo"
    composing = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true})"
    assert tab.say.evaluate(f"say => say.dispatchEvent({composing})")  # not prevented: it chooses the word
    late = "new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true, cancelable: true})"
    assert tab.say.evaluate(f"say => say.dispatchEvent({late})")
    assert tab.answers.count() == 0 and relay.asked == []


@pytest.mark.parametrize("how", ["Escape", "button"])
def test_stop_keeps_what_came(tab, relay, how):
    tab.set(seed=7)
    relay.pace = 0.05
    tab.send()
    expect(tab.answers.locator(".raw")).to_contain_text("Once upon")
    tab.page.keyboard.press("Escape") if how == "Escape" else tab.go.click()
    expect(tab.stats).to_contain_text("stopped")
    expect(tab.go).to_have_text("Send")
    text = tab.answers.locator(".body").inner_text()
    assert text.startswith("Once upon")
    relay.pace = 0
    tab.page.reload()
    expect(tab.answers.locator(".body")).to_have_text(text)
    tab.talk("And then?")
    assert [m["role"] for m in relay.asked[-1]["messages"]] == ["user", "assistant", "user"]
    assert relay.asked[-1]["messages"][1]["content"].strip() == text


def test_regenerate_keeps_the_other_answer(tab, relay):
    tab.set(max_tokens=30)
    first = tab.talk()
    tab.button("Regenerate").click()
    expect(tab.answers).to_contain_text("2 of 2")
    tab.whole()
    assert relay.asked[0]["messages"] == relay.asked[1]["messages"]
    assert relay.asked[0]["seed"] != relay.asked[1]["seed"]
    tab.button("Earlier version").click()
    expect(tab.answers.locator(".body")).to_have_text(first)
    expect(tab.button("Later version")).to_be_focused()
    tab.page.reload()
    expect(tab.answers).to_contain_text("1 of 2")


def test_an_answer_in_the_middle_is_regenerated(tab, relay):
    tab.set(max_tokens=12)
    tab.talk("One")
    tab.talk("Two")
    tab.button("Regenerate").first.click()
    expect(tab.answers).to_have_count(1)
    tab.whole()
    assert [m["content"] for m in relay.asked[-1]["messages"]] == ["One"]
    tab.button("Earlier version").click()
    expect(tab.mine).to_have_text(["One", "Two"])


def test_edit_and_answer_again_from_there(tab, relay):
    tab.set(max_tokens=12)
    tab.talk("A story about a fox.")
    tab.talk("Go on.")
    tab.button("Edit").first.click()
    area = tab.page.get_by_label("Edit the message")
    expect(area).to_be_focused()
    area.press("Escape")
    expect(tab.mine).to_have_text(["A story about a fox.", "Go on."])
    tab.button("Edit").first.click()
    area.fill("A story about a hen.")
    area.press("Enter")
    expect(tab.mine).to_have_text(["A story about a hen."])
    tab.whole()
    assert [m["content"] for m in relay.asked[-1]["messages"]] == ["A story about a hen."]
    tab.button("Earlier version").click()
    expect(tab.mine).to_have_text(["A story about a fox.", "Go on."])


def test_settings_are_sent(tab, relay):
    tab.set(temperature="0,5", top_k=9, top_p=0.9, min_p=0.1, repeat_penalty=1.1)
    tab.set(max_tokens=5, seed=3, stop="END\nThe\\nend")
    tab.talk()
    asked = relay.asked[-1]
    wanted = {"temperature": 0.5, "top_k": 9, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.1, "max_tokens": 5}
    assert wanted.items() <= asked.items() and asked["seed"] == 3 and asked["stop"] == ["END", "The\nend"]
    assert asked["stream"] is True and asked["logprobs"] is True and asked["top_logprobs"] == 5
    expect(tab.stats).to_contain_text("cut at the limit")
    tab.page.reload()
    expect(tab.page.locator("#set-temperature")).to_have_value("0,5")
    tab.set(temperature="hot")
    tab.send("More")
    expect(tab.page.get_by_role("alert")).to_contain_text("Temperature: “hot” found, expected a number from 0 to 100")
    assert len(relay.asked) == 1 and tab.say.input_value() == "More"


def test_a_system_prompt_is_sent_and_shown(tab):
    scripted(tab, chunk({"role": "assistant", "content": "Hi"}, finish="stop"))
    tab.set(system="You tell stories.")
    with tab.page.expect_request("**/v1/chat/completions") as request:
        tab.talk()
    system, user = request.value.post_data_json["messages"]
    assert system == {"role": "system", "content": "You tell stories."} and user["content"] == STORY
    expect(tab.page.locator(".system")).to_contain_text("You tell stories.")
    tab.page.reload()
    expect(tab.page.locator("#set-system")).to_have_value("You tell stories.")


def test_reload_keeps_history_and_a_draft(tab):
    tab.set(max_tokens=20)
    text = tab.talk()
    tab.say.fill("and the")
    tab.page.reload()
    expect(tab.answers.locator(".body")).to_have_text(text)
    expect(tab.mine).to_have_text([STORY])
    expect(tab.say).to_have_value("and the")
    assert tab.titles() == [STORY]


def test_a_conversation_goes_on_while_another_is_read(tab, relay):
    tab.set(max_tokens=20)
    relay.pace = 0.05
    tab.send("The first")
    expect(tab.answers.locator(".raw")).not_to_be_empty()
    tab.button("New conversation").click()
    expect(tab.answers).to_have_count(0)
    relay.pace = 0
    tab.talk("The second")
    tab.page.locator("#list").get_by_text("The first").click()
    assert tab.whole()
    tab.page.go_back()
    expect(tab.mine).to_have_text(["The second"])


def test_rename_and_delete_with_undo(tab):
    tab.set(max_tokens=5)
    tab.talk()
    tab.button(f"Rename {STORY}").click()
    tab.page.get_by_label("Name").fill("Foxes")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text("Foxes")
    expect(tab.button("Foxes", exact=True)).to_be_focused()
    tab.button("Delete Foxes").click()
    expect(tab.page.locator("#empty")).to_be_visible()
    assert tab.titles() == []
    tab.button("Undo").click()
    expect(tab.mine).to_have_text([STORY])
    assert tab.titles() == ["Foxes"]
    tab.button("Delete Foxes").click()
    tab.page.reload()
    expect(tab.page.locator("#list")).to_contain_text("None yet")


def test_export_and_import(tab, tmp_path):
    tab.set(max_tokens=8)
    text = tab.talk()
    tab.set(system="Be kind.")
    with tab.page.expect_download() as download:
        tab.button("Export").click()
    path = tmp_path / "talk.json"
    download.value.save_as(path)
    assert [m["role"] for m in json.loads(path.read_text())["messages"]] == ["system", "user", "assistant"]
    tab.button(f"Delete {STORY}").click()
    tab.page.set_input_files("#file", path)
    expect(tab.answers.locator(".body")).to_have_text(text)
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]))
    tab.page.set_input_files("#file", plain)
    expect(tab.mine).to_have_text(["Hi"])
    plain.write_text('{"nodes": {"a": {"role": "king"}}}')
    tab.page.set_input_files("#file", plain)
    expect(tab.page.get_by_role("alert")).to_contain_text('has the role "king", expected user, assistant or tool')


# what the browser keeps


def test_two_tabs_do_not_overwrite_each_other(tabs, relay):
    one = tabs()
    one.set(max_tokens=10)
    one.talk("From the first tab")
    two = tabs(one.page.context)
    two.talk("From the second tab")
    one.talk("More from the first")
    for tab in one, two:
        expect(tab.page.locator("#list .open")).to_have_count(2)


def test_two_tabs_write_in_one_conversation_at_once(tabs, relay):
    one = tabs()
    one.set(max_tokens=10)
    one.talk()
    # news of the other tab come too late for either
    one.page.context.add_init_script("addEventListener('storage', e => e.stopImmediatePropagation(), true)")
    one.page.reload()
    two = tabs(one.page.context, one.page.url.removeprefix(relay.url))
    relay.pace = 0.02
    one.send("Here")
    two.send("There")
    for tab, text in (one, "Here"), (two, "There"):
        tab.whole(1)
        expect(tab.mine).to_have_text([STORY, text])
    one.page.reload()
    versions = one.page.locator("article.user").last
    expect(versions).to_contain_text("of 2")
    here = one.mine.last.inner_text()
    one.page.get_by_role("button", name=re.compile("(Earlier|Later) version")).last.click()
    expect(one.mine.last).to_have_text({"Here": "There", "There": "Here"}[here])
    expect(one.stats.last).to_contain_text("tokens/s")


def test_what_another_tab_writes_or_deletes_is_seen(tabs, relay):
    one = tabs()
    one.set(max_tokens=5)
    one.talk()
    two = tabs(one.page.context, one.page.url.removeprefix(relay.url))
    two.talk("Go on")
    expect(one.mine).to_have_text([STORY, "Go on"])
    expect(one.stats).to_have_count(2)
    two.button(f"Delete {STORY}").click()
    expect(one.page.get_by_role("alert")).to_contain_text("deleted in another tab")
    expect(one.mine).to_have_text([STORY, "Go on"])
    one.button("Keep it").click()
    expect(two.page.locator("#list .open")).to_have_count(1)


def test_broken_values_break_nothing(tab):
    tab.page.evaluate("""() => {
        for (const [n, value] of ["{", "null", "[]", '{"nodes": 3}', '{"nodes": {"x": null}}',
            '{"nodes": {"x": {"role": "user", "parent": "x", "tokens": 4}}, "head": "x"}'].entries()) {
            localStorage.setItem("twofile.c.broken" + n, value);
        }
        localStorage.setItem("twofile.last", "[");
        localStorage.setItem("twofile.theme", "plaid");
    }""")
    tab.page.reload()
    tab.set(max_tokens=5)
    assert tab.talk()
    expect(tab.page.locator("#list .open")).to_have_count(7)
    tab.button("Cannot be read", exact=True).first.click()
    expect(tab.page.get_by_role("alert")).to_contain_text("cannot be read")
    with tab.page.expect_download():
        tab.button("Download").click()
    assert tab.page.evaluate("localStorage.getItem('twofile.c.broken0')") == "{"


def test_a_full_storage_is_told(tab):
    tab.set(max_tokens=60, seed=7)
    fill = """left => {
        let filler = "x".repeat(1 << 20);
        for (let n = 0; filler.length > 4; n++) {
            try { localStorage.setItem(left + " " + n, filler); } catch { filler = filler.slice(filler.length / 2); }
        }
        if (left) localStorage.setItem(left + " 0", "x".repeat((1 << 20) - left));
    }"""
    tab.page.evaluate(fill, 3000)
    text = tab.talk()
    expect(tab.page.get_by_role("alert")).to_contain_text("Probabilities of tokens are not kept")
    tab.page.evaluate(fill, 0)
    tab.talk("And then?")
    expect(tab.page.get_by_role("alert")).to_contain_text("This conversation is not kept")
    assert tab.answers.first.locator(".body").inner_text() == text
    with tab.page.expect_download():
        tab.page.locator("#notice").get_by_role("button", name="Export").click()


# errors


def test_a_server_that_goes_away_in_the_middle(tab, relay):
    tab.set(seed=7)
    relay.cut, relay.pace = 12, 0.02
    tab.send()
    trouble = tab.page.get_by_role("alert")
    expect(trouble).to_contain_text("the server went away in the middle")
    text = tab.answers.locator(".body").inner_text()
    assert text.startswith("Once upon a time")
    tab.page.reload()
    expect(tab.answers.locator(".body")).to_have_text(text)
    relay.cut, relay.pace = None, 0
    tab.button("Try again").click()
    expect(tab.answers).to_contain_text("2 of 2")
    assert tab.whole()
    tab.button("Earlier version").click()
    expect(tab.answers.locator(".body")).to_have_text(text)


def test_a_server_that_is_not_there(tab, relay):
    expect(tab.page.locator("#model")).to_have_text("model")
    relay.gone = True
    tab.send()
    expect(tab.answers).to_contain_text("The server does not answer")
    expect(tab.mine).to_have_text([STORY])
    relay.gone = False
    tab.button("Try again").click()
    assert tab.whole()
    assert "of 2" not in tab.answers.inner_text()  # nothing had come that is worth keeping


def test_an_error_in_the_stream(tab):
    error = {"error": {"message": "the disk is full", "type": "server_error", "param": None, "code": None}}
    scripted(tab, chunk({"role": "assistant", "content": "Once"}), error, done=False)
    tab.send()
    expect(tab.page.get_by_role("alert")).to_contain_text("the disk is full")
    expect(tab.answers.locator(".body")).to_have_text("Once")


def test_a_busy_server(tab):
    refuses(tab, 429, "256 wait already", **{"Retry-After": "1"})
    tab.send()
    expect(tab.page.get_by_role("alert")).to_contain_text("The server is busy: 256 wait already")
    expect(tab.button("Try again in 1 s")).to_be_visible()
    tab.button("Try again", exact=True).click()
    assert tab.whole()


def test_a_conversation_that_is_too_long(tab):
    tab.send("fox " * 2000)
    expect(tab.page.get_by_role("alert")).to_contain_text("too long for the model")
    tab.button("Edit").click()
    tab.page.get_by_label("Edit the message").fill(STORY)
    tab.button("Send again").click()
    assert tab.whole()


def test_a_key_is_asked_for(tab, tabs, relay):
    expect(tab.page.locator("#model")).to_have_text("model")
    relay.key = "secret"
    tab.send()
    dialog = tab.page.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    expect(tab.page.get_by_label("Key", exact=True)).to_be_focused()
    tab.page.keyboard.type("secret")
    tab.page.keyboard.press("Enter")
    assert tab.whole()
    assert tab.page.evaluate("[sessionStorage['twofile.key'], localStorage['twofile.key'] || '']") == ["secret", ""]
    other = tabs()  # another browser: it is asked as it comes
    expect(other.page.get_by_role("dialog", name="API key")).to_be_visible()
    other.page.keyboard.type("secret")
    other.page.get_by_role("checkbox").check()
    other.button("Use this key").click()
    expect(other.page.locator("#model")).to_have_text("model")
    assert other.page.evaluate("localStorage['twofile.key']") == "secret"


# text


HOSTILE = """<img src=x onerror="window.hit = 1"><script>window.hit = 2</script>

[click](javascript:window.hit=3) and [data](data:text/html,hm) and [good](https://example.org/a_(b)) and
![picture](https://example.org/x.png), https://example.org/plain.

```html"><img src=x onerror=window.hit=4>
<b onclick=window.hit=5>bold</b>
```
# <svg onload=window.hit=6>
"""


def test_hostile_text_stays_text(tab):
    body = says(tab, HOSTILE)
    assert body.locator("img, script, svg, b").count() == 0
    links = body.locator("a")
    assert [a.get_attribute("href") for a in links.all()] == [
        "https://example.org/a_(b)",
        "https://example.org/x.png",
        "https://example.org/plain",
    ]
    assert {a.get_attribute("rel") for a in links.all()} == {"noopener noreferrer"}
    text = body.inner_text()
    assert '<img src=x onerror="window.hit = 1"><script>window.hit = 2</script>' in text
    assert "[click](javascript:window.hit=3)" in text and "<b onclick=window.hit=5>bold</b>" in text
    tab.button("Rename Hello").click()
    tab.page.get_by_label("Name").fill("<img src=x onerror=window.hit=7>")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text("<img src=x onerror=window.hit=7>")
    assert tab.page.evaluate("window.hit") is None


MARKDOWN = """# Title

A *soft* and **strong** word with `code`, a_b_c and 2 * 3 * 4.
The same paragraph.

- one
- two
  1. inner
  2. second

> quoted **text**

```python
if x:
    print("**not bold**")
```

---
1. first
2. last \\*

**open and `ticks
"""


def test_markdown(tab):
    body = says(tab, MARKDOWN)
    texts = {tag: body.locator(tag).all_inner_texts() for tag in ("h3", "em", "strong", "ol > li", "blockquote")}
    assert texts["h3"] == ["Title"] and texts["em"] == ["soft"] and texts["strong"] == ["strong", "text"]
    assert texts["ol > li"] == ["inner", "second", "first", "last *"] and texts["blockquote"] == ["quoted text"]
    assert body.locator("li li").count() == 2 and body.locator("hr").count() == 1
    assert body.locator("p code").all_inner_texts() == ["code"]
    assert body.locator("pre").inner_text().rstrip("\n") == 'if x:\n    print("**not bold**")'
    assert "a_b_c and 2 * 3 * 4." in body.inner_text() and "**open and `ticks" in body.inner_text()
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.button("Copy code").click()
    assert tab.page.evaluate("navigator.clipboard.readText()") == 'if x:\n    print("**not bold**")'


def test_markdown_is_quick_on_anything(tab):
    odd = ["x" + "*" * 9000, "[" * 9000, "`a" * 4000, "> " * 4000 + "x", "*a " * 3000, "_a **" * 2000, "* " * 4000 + "x"]
    odd += ["# " + " " * 9000 + "x", "- " * 4000 + "x", "![](" * 3000, "h" * 9000, "http://a" * 2000, "```" * 3000 + "x"]
    parse = "text => { const box = document.createElement('div'), began = performance.now();"
    parse += "markdown(box, text, null); return [performance.now() - began, box.textContent.length]; }"
    for text in odd:
        took, n = tab.page.evaluate(parse, text)
        assert took < 2000 and n, text[:20]


def test_tools_are_shown_with_what_they_returned(tab):
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    scripted(
        tab,
        chunk({"role": "assistant", "content": None, "tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]}, finish="tool_calls"),
        chunk({"role": "tool", "tool_call_id": "c1", "content": '{"sun": true}'}),
        chunk({"role": "assistant", "content": "It is sunny."}, finish="stop"),
    )
    tab.send("Weather?")
    expect(tab.answers.last.locator(".body")).to_have_text("It is sunny.")
    expect(tab.answers.first).to_contain_text("Calls weather")
    expect(tab.answers.first.locator("pre")).to_have_text('{\n  "city": "Ulm"\n}')
    result = tab.page.locator("article.tool details")
    expect(result.locator("summary")).to_have_text("Result of weather")
    result.locator("summary").click()
    expect(result.locator("pre")).to_have_text('{\n  "sun": true\n}')
    tab.page.reload()
    expect(tab.answers.first).to_contain_text("Calls weather")


def test_sources_are_text_under_an_answer(tab):
    """What a memory paged in is a stranger's: names and passages stay text, after a reload too."""
    source = {
        "number": 1,
        "file": "a<img src=x onerror='window.hit=9'>.md",
        "line": 7,
        "heading": "<b>Boats</b>",
        "text": HOSTILE,
    }
    last = chunk({"content": "At nine."}, finish="stop") | {"sources": [{**source, "invisible": 3}]}
    scripted(tab, chunk({"role": "assistant", "content": ""}), last)
    tab.talk("When does the boat leave?")
    for _ in range(2):
        shown = tab.answers.last.locator(".sources")
        summary = "a<img src=x onerror='window.hit=9'>.md:7, <b>Boats</b>, 3 invisible characters"
        expect(shown.locator("summary")).to_have_text(summary)
        shown.locator("summary").click()
        assert "<script>window.hit = 2</script>" in shown.locator("p").inner_text()
        assert shown.locator("img, script, svg, b").count() == 0 and not tab.page.evaluate("window.hit")
        tab.page.reload()
    scripted(tab, chunk({"role": "assistant", "content": "x"}, finish="stop") | {"sources": [{"file": 3}]})
    tab.talk("And then?")
    assert tab.answers.last.locator(".sources").count() == 0


def with_tools(tab, *answers):
    """The server has two tools, and answers so, each list once -> (what was called, what the model was asked)."""
    function = lambda name: {"name": name, "description": "", "parameters": {"type": "object", "properties": {}}}
    listed = [{"type": "function", "function": function(n), "each_time": n == "shell"} for n in ("calculator", "shell")]
    ran, asked, left = [], [], list(answers)

    def answer(route):
        asked.append(route.request.post_data_json)
        lines = "".join(f"data: {json.dumps(c)}\n\n" for c in left.pop(0)) + "data: [DONE]\n\n"
        route.fulfill(content_type="text/event-stream", body=lines)

    def run(route):
        ran.append(route.request.post_data_json)
        route.fulfill(json={"name": "x", "content": f"result {len(ran)}", "result": "r"})

    tab.page.route("**/tools", lambda route: route.fulfill(json={"tools": listed}))
    tab.page.route("**/tools/call", run)
    tab.page.route("**/v1/chat/completions", answer)
    tab.page.reload()
    return ran, asked


def calling(id, name="calculator", arguments='{"expression": "1+1"}'):
    call = {"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return [chunk({"role": "assistant", "content": None, "tool_calls": [call]}, finish="tool_calls")]


def saying(text):
    return [chunk({"role": "assistant", "content": text}, finish="stop")]


def test_a_call_is_asked_for_and_the_answer_goes_on(tab):
    ran, asked = with_tools(tab, calling("c1"), calling("c2"), calling("c3"), saying("It is 2."))
    tab.send("1+1?")
    expect(tab.button("Once")).to_be_visible()
    assert ran == [] and [tool["function"]["name"] for tool in asked[0]["tools"]] == ["calculator", "shell"]
    tab.page.reload()  # it waits
    tab.say.fill("another")
    tab.say.press("Enter")
    expect(tab.page.get_by_role("alert")).to_contain_text("A call waits for your answer")
    tab.button("Once").click()
    expect(tab.page.locator("article.tool")).to_have_count(1)
    tab.button("Always").click()  # of the second; the third is not asked for
    expect(tab.answers.last.locator(".body")).to_have_text("It is 2.")
    assert ran == [{"name": "calculator", "arguments": '{"expression": "1+1"}'}] * 3
    told = [m for m in asked[-1]["messages"] if m["role"] == "tool"]
    assert [(m["tool_call_id"], m["content"]) for m in told] == [("c1", "result 1"), ("c2", "result 2"), ("c3", "result 3")]
    expect(tab.button("Once")).to_have_count(0)


def test_never_and_each_time(tab):
    ran, asked = with_tools(tab, calling("c1", "shell", "{}"), calling("c2"), calling("c3"), saying("Well."))
    tab.send("Go")
    expect(tab.button("Once")).to_be_visible()
    expect(tab.button("Always")).to_have_count(0)  # not for the shell
    tab.button("Once").click()
    expect(tab.button("Always")).to_be_visible()
    tab.button("Never").click()
    expect(tab.answers.last.locator(".body")).to_have_text("Well.")
    assert len(ran) == 1
    assert [m["content"] for m in asked[-1]["messages"] if m["role"] == "tool"][1:] == ["error: the user does not allow it"] * 2


def test_a_call_is_edited(tab):
    hidden = '{"expression": "1+1\u202e\u200b\u3164"}'
    ran, asked = with_tools(tab, calling("c1", arguments=hidden), saying("Done."))
    tab.send("Go")
    expect(tab.answers.first.locator("pre")).to_contain_text("1+1\\u202e\\u200b\\u3164")  # nothing hides
    tab.button("Edit").last.click()
    area = tab.page.get_by_label("Arguments")
    expect(area).to_have_value('{\n  "expression": "1+1\\u202e\\u200b\\u3164"\n}')
    area.fill("no JSON")
    tab.button("Run this").click()
    expect(area).to_have_attribute("aria-invalid", "true")
    area.fill('{"expression": "6*7"}')
    tab.button("Run this").click()
    expect(tab.answers.last.locator(".body")).to_have_text("Done.")
    assert ran == [{"name": "calculator", "arguments": '{"expression":"6*7"}'}]
    assert asked[-1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"expression":"6*7"}'


def test_so_many_calls_and_no_more(tab):
    ran, asked = with_tools(tab, *[calling(f"c{n}") for n in range(8)], saying("Enough."))
    tab.send("Go")
    tab.button("Always").click()
    expect(tab.answers.last.locator(".body")).to_have_text("Enough.")
    assert len(ran) == 8 and "tools" in asked[7] and "tools" not in asked[8]


def test_a_tool_of_a_server_that_is_gone(tab):
    ran, asked = with_tools(tab, calling("c1"), saying("Done."))
    tab.page.route("**/tools/call", lambda route: route.abort(), times=1)
    tab.send("Go")
    tab.button("Once").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("The server does not answer")
    tab.button("Try again").click()
    expect(tab.answers.last.locator(".body")).to_have_text("Done.")


# tokens


def test_hover_shows_probabilities(tab):
    tab.set(seed=7, max_tokens=20)
    tab.talk()
    tip = tab.page.get_by_role("tooltip")
    tab.answers.locator(".tok", has_text="upon").hover()
    expect(tip).to_contain_text(re.compile(r"␣upon\s*\d+(\.\d)? %"))
    assert tip.locator("tr").count() == 5
    tab.page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    tab.button("Tokens").click()
    tokens = tab.page.get_by_role("option")
    assert "".join(tokens.all_text_contents()).startswith("Once upon a time")
    tokens.nth(1).hover()
    expect(tip).to_contain_text("␣upon")
    tab.say.hover()
    expect(tip).to_be_hidden()


def test_tokens_by_keyboard(tab):
    tab.set(seed=7, max_tokens=20)
    tab.talk()
    tab.button("Tokens").focus()
    tab.page.keyboard.press("Enter")
    expect(tab.button("Tokens")).to_be_focused()
    expect(tab.button("Tokens")).to_have_attribute("aria-pressed", "true")
    for _ in range(2):  # over Regenerate to the tokens, which are one stop
        tab.page.keyboard.press("Shift+Tab")
    tokens = tab.page.get_by_role("option")
    expect(tokens.first).to_be_focused()
    tab.page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(tab.page.get_by_role("tooltip")).to_contain_text("␣upon")
    assert re.match(r"␣upon, \d+(\.\d)? %; or ␣", tokens.nth(1).get_attribute("aria-label"))
    tab.page.keyboard.press("End")
    expect(tokens.last).to_be_focused()


def test_tokens_that_are_parts_of_a_character(tab):
    def token(label, raw, p):
        return {"token": label, "logprob": p, "bytes": list(raw), "top_logprobs": []}

    scripted(
        tab,
        chunk({"role": "assistant", "content": "A "}, [token("A ", b"A ", -0.1)]),
        chunk({"content": ""}, [token("bytes:\\xf0\\x9f", b"\xf0\x9f", -1.0)]),
        chunk({"content": "🦊 runs"}, [token("bytes:\\xa6\\x8a", b"\xa6\x8a", -2.0), token(" runs", b" runs", -3.0)]),
        chunk({}, finish="stop"),
    )
    tab.talk("Hello")
    expect(tab.answers.locator(".body")).to_have_text("A 🦊 runs")
    tab.answers.locator(".tok", has_text="🦊").hover()
    expect(tab.page.get_by_role("tooltip")).to_contain_text("bytes:\\xa6\\x8a")
    tab.button("Tokens").click()
    assert tab.page.get_by_role("option").all_text_contents() == ["A ", "\\xf0\\x9f", "🦊", " runs"]


# models


def models(tab, *listed, reload=True):
    def fulfil(route):
        data = [{"id": i, "object": "model", "created": 0, "owned_by": "twofile", **more} for i, more in listed]
        route.fulfill(json={"object": "list", "data": data})

    tab.page.route("**/v1/models", fulfil)
    if reload:
        tab.page.reload()


def test_several_models(tab, relay):
    models(tab, ("model", {"chat": True, "context": 512}), ("other", {"chat": True, "context": 64}))
    select = tab.page.get_by_label("Model")
    expect(select).to_be_visible()
    scripted(tab, chunk({"role": "assistant", "content": "Hi"}, finish="stop"))
    select.select_option("other")
    with tab.page.expect_request("**/v1/chat/completions") as request:
        tab.talk()
    assert request.value.post_data_json["model"] == "other"
    tab.page.reload()
    expect(select).to_have_value("other")


def test_a_server_that_has_another_model_by_now(tab, relay):
    expect(tab.page.locator("#model")).to_have_text("model")
    refuses(tab, 404, "model model: not here, expected other")
    models(tab, ("other", {"chat": True, "context": 512}), reload=False)
    tab.send()
    expect(tab.page.locator("#model")).to_have_text("other")
    scripted(tab, chunk({"role": "assistant", "content": "Hi"}, finish="stop"))
    with tab.page.expect_request("**/v1/chat/completions") as request:
        tab.button("Try again").click()
    assert request.value.post_data_json["model"] == "other" and tab.whole() == "Hi"


def test_a_model_without_a_template_goes_on_with_a_text(tab, relay):
    models(tab, ("model", {"chat": False, "context": 512, "tools": False}))
    expect(tab.go).to_have_text("Continue")
    tab.set(max_tokens=10, seed=7)
    first = tab.talk("Once upon a time")
    assert relay.asked[-1]["prompt"] == "Once upon a time" and "messages" not in relay.asked[-1]
    tab.go.click()  # nothing more of mine: it goes on
    expect(tab.answers).to_have_count(2)
    tab.whole(1)
    assert relay.asked[-1]["prompt"].startswith("Once upon a time" + first)
    tab.answers.first.locator(".tok").nth(1).hover()
    expect(tab.page.get_by_role("tooltip").locator("tr")).to_have_count(5)


# everybody


def test_by_keyboard_alone(tab, relay):
    press = tab.page.keyboard.press
    expect(tab.say).to_be_focused()
    tab.page.keyboard.type(STORY)
    press("Enter")
    tab.whole()
    press("Shift+Tab")  # back from the field: the acts of the answer
    expect(tab.button("Copy").last).to_be_focused()
    assert tab.button("Copy").last.evaluate("b => getComputedStyle(b).outlineStyle") == "solid"
    press("Shift+Tab")
    press("Shift+Tab")
    expect(tab.button("Regenerate")).to_be_focused()
    relay.pace = 0.05
    press("Enter")
    expect(tab.go).to_be_focused()
    expect(tab.go).to_have_text("Stop")
    press("Enter")
    expect(tab.stats).to_contain_text("stopped")
    expect(tab.go).to_be_focused()
    unnamed = "[...document.querySelectorAll('button, input, textarea, select')].filter(e => !e.labels?.length"
    unnamed += " && !e.ariaLabel && !e.textContent.trim()).map(e => e.id)"
    assert tab.page.evaluate(unnamed) == []


def test_an_answer_is_spoken_once(tab, relay):
    voice = tab.page.locator("#voice")
    expect(voice).to_have_attribute("aria-live", "polite")
    tab.page.evaluate("""() => {
        window.spoken = 0;
        new MutationObserver(() => window.spoken++).observe(document.getElementById("voice"), {childList: true});
    }""")
    tab.set(max_tokens=60, seed=7)
    relay.pace = 0.005
    text = tab.talk()
    assert voice.inner_text().split() == text.split()
    assert tab.page.evaluate("window.spoken") < 15
    assert tab.page.locator("#thread[aria-live], #thread [aria-live]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(tabs, scheme):
    tab = tabs(color_scheme=scheme)
    shade = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128 ? 'light' : 'dark'"
    other = {"light": "dark", "dark": "light"}[scheme]
    assert tab.page.evaluate(shade) == scheme
    tab.button("Dark").click()
    assert tab.page.evaluate(shade) == other
    tab.page.reload()
    assert tab.page.evaluate(shade) == other
    expect(tab.button("Dark")).to_have_attribute("aria-pressed", str(other == "dark").lower())
    tab.button("Dark").click()
    tab.page.emulate_media(color_scheme=other)  # the system's choice again
    tab.page.wait_for_function(f"({shade})() === '{other}'")


def test_on_a_phone(tabs):
    tab = tabs(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    tab.set(seed=7)
    tab.say.fill(STORY)
    tab.go.tap()
    tab.whole()
    assert tab.wide() <= 0
    tab.answers.locator(".tok", has_text="upon").tap()
    expect(tab.page.get_by_role("tooltip")).to_contain_text("␣upon")
    tab.button("Tokens").tap()
    assert tab.wide() <= 0
    side = tab.page.locator("#side")
    expect(side).to_be_hidden()
    tab.button("Conversations").tap()
    expect(side).to_be_visible()
    tab.button("New conversation").tap()
    expect(side).to_be_hidden()
    says(tab, "```\n" + "wide " * 60 + "\n```\n" + "x" * 300)
    assert tab.wide() <= 0
    tab.button("Settings", exact=True).tap()
    assert tab.wide() <= 0
    sizes = "[...document.querySelectorAll('textarea, input.field')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(tab.page.evaluate(sizes)) >= 16
    tab.button("Close settings").tap()


def test_nothing_comes_from_elsewhere(tab, relay):
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.reload()
    tab.talk()
    assert asked and all(url.startswith((relay.url, "data:image/svg+xml")) for url in asked)
    with urllib.request.urlopen(relay.url) as answer:
        policy, page = answer.headers["content-security-policy"], answer.read().decode()
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|\sstyle=|\son\w+=\"", page)

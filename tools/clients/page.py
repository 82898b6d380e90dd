"""Uses the server's page as a person would, in headless Chromium, and leaves screenshots:

    pip install playwright && python tools/clients/page.py http://127.0.0.1:8080 /usr/bin/chromium FOLDER
"""

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

base, chromium, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for scheme in ["light", "dark"]:
        page = browser.new_page(color_scheme=scheme, viewport={"width": 900, "height": 700})
        faults = []
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not request.url.startswith((base, "data:")) else None)
        page.goto(base)
        expect(page.locator("#model")).to_contain_text("demo")

        # By keyboard alone: the field has the focus from the start.
        page.keyboard.type("What is 17 + 25?")
        page.keyboard.press("Enter")
        answer = page.locator("article.assistant .body")
        expect(answer).to_have_text("42")
        expect(page.locator(".tools")).to_contain_text("tokens/s")
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator(".tools")).to_contain_text("cached")
        expect(answer).to_have_count(1)
        expect(answer).to_have_text("42")

        # A file goes with the question.
        page.set_input_files("#attach", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a file"})
        expect(page.locator("#files")).to_contain_text("a.txt")
        page.keyboard.press("Tab")
        page.locator("#question").fill("What is 3 + 4?")
        page.locator("#question").press("Enter")
        expect(page.locator("article.user").last).to_contain_text("a.txt")
        expect(page.locator("#send")).to_be_visible()

        # Settings are kept, and sent.
        page.get_by_role("button", name="Settings").click()
        page.locator("#max_tokens").fill("1")
        page.locator("#max_tokens").dispatch_event("change")
        page.reload()
        # So is the chat, and it goes on.
        expect(page.locator("article.assistant .body").first).to_have_text("42")
        expect(page.locator("article.user").last).to_contain_text("a.txt")
        page.get_by_role("button", name="Settings").click()
        assert page.locator("#max_tokens").input_value() == "1"
        page.locator("#max_tokens").fill("")
        page.locator("#max_tokens").dispatch_event("change")

        # Markdown becomes elements, and markup in it stays text.
        shown = page.evaluate(
            """() => {
                const made = document.createElement("article");
                made.className = "message assistant";
                made.append(markdown("# Head\\n\\nSome **strong**, *slanted* and `code`.\\n\\n- one\\n- two\\n  1. inner\\n\\n"
                    + "| a | b |\\n|---|---|\\n| 1 | 2 |\\n\\n```js\\nlet x = '<b>';\\n```\\n<img src=x onerror=alert(1)>"));
                document.getElementById("chat").append(made);
                return made.innerHTML;
            }"""
        )
        for part in ["<h2>Head</h2>", "<strong>strong</strong>", "<em>slanted</em>", "<li>one</li>", "<ol", "<td>2</td>",
                     "let x = '&lt;b&gt;'", "&lt;img src=x"]:
            assert part in shown, (part, shown)
        page.screenshot(path=folder / f"page-{scheme}.png")

        # A long name leaves the buttons as they are, and nothing stands out to the right.
        places = lambda: [page.locator(button).bounding_box() for button in ["#new", "#show-settings"]]
        wide = places()[0]["height"]
        page.set_viewport_size({"width": 320, "height": 600})
        page.evaluate("document.getElementById('model').textContent = 'DeepSeek-V3-0324-'.repeat(8) + ', 163840 tokens of context'")
        new, settings = places()
        assert new["height"] == settings["height"] == wide and new["y"] == settings["y"], (new, settings, wide)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.screenshot(path=folder / f"narrow-{scheme}.png")
        assert not faults, faults
        page.close()

    # An answer can be stopped.
    page = browser.new_page()
    page.goto(base)
    expect(page.locator("#model")).to_contain_text("demo")
    page.route("**/v1/chat/completions", lambda route: route.continue_(
        post_data={**route.request.post_data_json, "logit_bias": {"1": -100}, "min_p": 0}))
    page.locator("#question").fill("What is 17 + 25?")
    page.locator("#question").press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("article.assistant .body")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator("#send")).to_be_visible()
    assert "aborted" not in page.locator("#chat").inner_text()
    browser.close()
print("page passed")

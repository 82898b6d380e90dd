"""Sends a chat through Open WebUI's page, in headless Chromium, to the server behind it, and leaves a screenshot:

    pip install playwright && python tools/clients/open-webui.py http://127.0.0.1:3000 /usr/bin/chromium FOLDER

README, "Open WebUI", says how both are started; WEBUI_AUTH=False spares the first user's account.
"""

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

base, chromium, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    try:
        page.goto(f"{base}/?models=demo", wait_until="domcontentloaded")
        field = page.locator("#chat-input")
        expect(field).to_be_visible(timeout=60_000)
        # What is new in this version stands before it the first time.
        page.wait_for_timeout(2000)
        page.keyboard.press("Escape")
        field.click()
        page.keyboard.type("What is 17 + 25?")
        page.keyboard.press("Enter")
        answer = page.locator(".chat-assistant").last
        expect(answer).to_contain_text("42", timeout=60_000)
        print("Open WebUI passed")
    finally:
        page.screenshot(path=folder / "open-webui.png")
        browser.close()

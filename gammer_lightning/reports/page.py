"""How every HTML page of ours begins: nothing is asked of any server, light and dark, the same colours and type."""

PAGE_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --ground: #fbfbfa; --sheet: #fff; --ink: #1d2329; --soft: #626b75; --rule: #e2e5e8; --link: #22578f; --tint: #f0f4f8;
  --bad: #b3261e; --busy: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --sheet: #1b1f23; --ink: #e4e7ea; --soft: #98a2ac; --rule: #30363c; --link: #8fbdf0;
    --tint: #232a31; --bad: #ff9d94; --busy: #f0c070;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
}
h1 { font: 650 clamp(1.15rem, 4vw, 1.5rem)/1.3 system-ui, sans-serif; margin: 0; overflow-wrap: anywhere; }
"""
"""Up to within ``<style>``, as a `string.Template` with ``$title``; a page goes on with its own rules."""

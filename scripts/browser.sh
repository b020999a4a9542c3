# Gets the browser of tests/test_browser.py, where that can be done unasked; sourced, needs no folder.
#
# chromium and chromedriver from the distribution's packages, when they are missing, on a system
# like Debian and as root. Anywhere else it says in one line why those tests will be skipped.

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "no chromium and chromedriver, and no apt-get: the browser tests will be skipped" >&2
    elif [ "$(id -u)" != 0 ]; then
        echo "no chromium and chromedriver: the browser tests will be skipped;" \
            "get them with: sudo apt-get install chromium chromium-driver" >&2
    else
        echo "installing chromium and chromedriver (once)" >&2
        browser_log=$(mktemp)
        if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
            --no-install-recommends chromium chromium-driver; } >"$browser_log" 2>&1 </dev/null; then
            echo "chromium cannot be installed, the browser tests will be skipped:" \
                "$(tail -n 1 "$browser_log")" >&2
        fi
        rm -f "$browser_log"
    fi
fi

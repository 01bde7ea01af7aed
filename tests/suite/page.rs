//! `bace report --html` in a browser: what is on the page, and whether people can read it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::browser::{Browser, without_chromium};
use crate::harness::{Place, scenario};

/// A page of a simulation and one of a real run with everything, at both widths, in both themes.
const WIDTHS: [u32; 2] = [400, 1600];

/// Sections with a picture, on a real run's page.
const PICTURES: [&str; 6] = ["timeline", "iteration", "causes", "jct", "dollars", "links"];

#[test]
fn a_real_runs_page_is_whole_and_can_be_read() {
    if without_chromium("the page of a real run") {
        return;
    }
    let links = "\n[network]\nreceipt_error = 5\nreceipt_error_ms = 2000\n";
    let place = Place::new(&format!("{}{links}", scenario("two-regions")));
    let run = place.start_run(&["--compute", "modelled", "--receipts", "full"]);
    run.end().code(0);
    // Two repeats, as a validation lays them out: the same run twice has noise of no width, and bars all the same.
    for repeat in ["measured-1", "measured-2"] {
        copy(
            &place.path("out"),
            &place.path(&format!("all/bace-pipe/{repeat}")),
        );
    }
    let report = [
        "report",
        "all",
        "--html",
        "page.html",
        "--iteration",
        "across:3",
    ];
    let told = place.bace(&report).code(0);
    assert!(
        told.stdout.contains("two-regions, policy bace-pipe"),
        "{told:?}"
    );
    let page = place.path("page.html");
    assert_small(&page);
    let mut browser = Browser::start();
    for width in WIDTHS {
        look_in_both_themes(&mut browser, &page, width, &PICTURES);
    }
    let text = browser.value("document.body.textContent");
    let text = text.as_str().expect("a page has text");
    for words in [
        "measured: clock wall × compute modelled × network shaped",
        "predicted: clock virtual × compute modelled × network modelled × iterations event",
        "Iteration 3 of job across (asked for)",
        "means over up to 2 repeats",
        "paths looked at",
        "counts as true",
    ] {
        assert!(text.contains(words), "no `{words}` on the page");
    }
}

#[test]
fn a_simulations_page_says_what_it_lacks() {
    if without_chromium("the page of a simulation") {
        return;
    }
    let place = Place::new(&scenario("two-regions"));
    place.bace(&["simulate", "s.toml", "--out", "out"]).code(0);
    place
        .bace(&["report", "out", "--html", "page.html"])
        .code(0);
    let page = place.path("page.html");
    assert_small(&page);
    let mut browser = Browser::start();
    for width in WIDTHS {
        look_in_both_themes(&mut browser, &page, width, &["timeline", "dollars"]);
    }
    let links = browser.value("document.querySelector('#links').textContent");
    let links = links.as_str().expect("the section is there");
    assert!(
        links.contains("Absent: a simulation has no links to measure"),
        "{links}"
    );
    assert_eq!(browser.value("document.querySelector('#jct')"), Value::Null);
}

#[test]
fn an_iteration_that_is_not_there_is_told() {
    let place = Place::new(&scenario("two-regions"));
    place.bace(&["simulate", "s.toml", "--out", "out"]).code(0);
    let ask = |choice: &str| {
        place.bace(&[
            "report",
            "out",
            "--html",
            "page.html",
            "--iteration",
            choice,
        ])
    };
    ask("nobody:1")
        .code(2)
        .complains(&["names no job nobody", "across, beside, later"]);
    ask("across:900")
        .code(2)
        .complains(&["no iteration 900 of job across"]);
    let told = ask("across").code(2).stderr;
    assert!(
        told.contains("a job's name, a colon and a number"),
        "{told}"
    );
    assert!(!place.path("page.html").exists());
}

fn assert_small(page: &Path) {
    let text = fs::read_to_string(page).expect("the page was written");
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
    assert!(!text.contains("<script"), "the page needs no scripts");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for name in ["ledger.jsonl", "scenario.toml"] {
        fs::copy(from.join(name), to.join(name)).expect("a run's file is copied");
    }
}

/// Looks at the page in both themes, which give every picture other colours.
fn look_in_both_themes(browser: &mut Browser, page: &Path, width: u32, pictures: &[&str]) {
    let [light, dark] = ["light", "dark"].map(|theme| {
        let colours = look(browser, page, (width, theme), pictures);
        colours.as_array().expect("a list of pictures").clone()
    });
    assert_eq!(light.len(), dark.len());
    assert!(
        light.len() > pictures.len(),
        "the page itself and its pictures"
    );
    for (light, dark) in light.iter().zip(&dark) {
        let named = [light, dark].map(|of| &of["name"]);
        assert_eq!(named[0], named[1]);
        let colours = [light, dark].map(|of| of["colours"].as_array().expect("colours"));
        assert!(!colours[0].is_empty(), "{}: no colours", named[0]);
        assert_eq!(colours[0].len(), colours[1].len(), "{}", named[0]);
        let same = colours[0]
            .iter()
            .zip(colours[1])
            .find(|(light, dark)| light == dark);
        assert_eq!(
            same, None,
            "{} at {width} px: alike in both themes",
            named[0]
        );
    }
}

/// Opens the page, checks it, and gives the colours of each of its pictures.
fn look(
    browser: &mut Browser,
    page: &Path,
    (width, theme): (u32, &str),
    pictures: &[&str],
) -> Value {
    browser.open(page, width, theme);
    let what = format!("{width} px, {theme}");
    for complaint in [
        "Runtime.exceptionThrown",
        "Runtime.consoleAPICalled",
        "Log.entryAdded",
    ] {
        assert_eq!(browser.told(complaint), Vec::<&Value>::new(), "{what}");
    }
    let asked = browser.told("Network.requestWillBeSent");
    let own = format!("file://{}", page.display());
    for request in asked {
        let url = request["request"]["url"].as_str().unwrap_or_default();
        assert!(
            url == own || url.starts_with("data:"),
            "{what}: it asks for {url}"
        );
    }
    browser.value("document.querySelectorAll('details').forEach(details => details.open = true)");
    for picture in pictures {
        let found = browser.value(&format!(
            "({PICTURE})(document.getElementById('{picture}'))"
        ));
        assert_eq!(found, Value::Null, "{what}, {picture}");
    }
    for (rule, finds) in [
        ("the body does not scroll sideways", OVERFLOW),
        ("what is wide scrolls within its own box", UNREACHABLE),
        ("no text is smaller than 12 px", SMALL),
        ("text stands out from its ground", &with_contrast(FAINT)),
        (
            "what is drawn stands out from its ground",
            &with_contrast(PALE),
        ),
        ("pictures have names and tables", UNNAMED),
    ] {
        assert_eq!(
            browser.value(&format!("({finds})()")),
            json!([]),
            "{what}: {rule}"
        );
    }
    browser.value(COLOURS)
}

/// What is wrong with a section's picture or table; null if nothing is.
const PICTURE: &str = "section => {
    if (!section) return 'no section';
    const pictures = [...section.querySelectorAll('figure [role=img]')];
    if (pictures.length === 0) return 'no picture: ' + section.textContent;
    for (const picture of pictures) {
        const box = picture.getBoundingClientRect();
        if (box.width < 200 || box.height < 20) return `a picture of ${box.width} by ${box.height}`;
        if (!picture.querySelector('rect, circle')) return 'an empty picture';
        const rows = picture.closest('figure').querySelectorAll('table tbody tr');
        if (rows.length === 0) return 'a picture without its table';
    }
    return null;
}";

const OVERFLOW: &str = "() => {
    const root = document.documentElement;
    return root.scrollWidth > root.clientWidth ? [`${root.scrollWidth} of ${root.clientWidth}`] : [];
}";

/// Tables and pictures that reach beyond the window outside of a box that scrolls.
const UNREACHABLE: &str = "() => [...document.querySelectorAll('table, svg, p, li, h1, h2, dd')]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
    .filter(one => {
        const box = one.closest('.scroll');
        return !box || getComputedStyle(box).overflowX !== 'auto' || box.getBoundingClientRect().right > innerWidth + 0.5;
    })
    .map(one => one.outerHTML.slice(0, 200))";

/// Texts as they stand on the screen: what scales a picture scales its text.
const SMALL: &str = "() => {
    const small = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode, of = text.parentElement;
        if (!text.data.trim() || ['TITLE', 'title', 'STYLE'].includes(of.tagName)) continue;
        const scale = of.getScreenCTM ? Math.abs(of.getScreenCTM().d || of.getScreenCTM().b) : 1;
        const size = parseFloat(getComputedStyle(of).fontSize) * scale;
        if (size < 11.99) small.push(`${size} px: ${text.data.slice(0, 60)}`);
    }
    return small;
}";

/// Texts whose contrast is below 4.5 to 1: words on the nearest ground behind them, those of a block on the block.
const FAINT: &str = "() => {
    const faint = [];
    const judge = (text, colour, on) => {
        if (colour && on && contrast(colour, on) < 4.5) faint.push(`${contrast(colour, on).toFixed(2)}: ${text.slice(0, 60)}`);
    };
    for (const text of document.querySelectorAll('svg text')) {
        const block = text.parentElement.querySelector(':scope > rect');
        const on = block && text.closest('.plot') ? parse(getComputedStyle(block).fill) : ground(text);
        judge(text.textContent, parse(getComputedStyle(text).fill), on);
    }
    for (const of of document.querySelectorAll('h1, h2, p, li, small, b, span, summary, a, th, td, caption, dt, dd')) {
        if (!of.closest('svg') && of.textContent.trim()) judge(of.textContent, parse(getComputedStyle(of).color), ground(of));
    }
    return faint;
}";

/// Blocks whose outline, and bars and points whose colour, has less than 3 to 1 against what lies behind.
const PALE: &str = "() => {
    const pale = [];
    const judge = (of, colour, grounds) => {
        if (!colour || grounds.some(on => contrast(colour, on) < 3)) pale.push(`${colour} on ${grounds.join(' and ')}: ${of.outerHTML.slice(0, 200)}`);
    };
    for (const block of document.querySelectorAll('.plot svg svg > rect, .swatch rect')) {
        const style = getComputedStyle(block);
        if (block.classList.contains('none')) continue;
        const lane = document.querySelector('.plot .lane');
        const behind = block.closest('.plot') && lane ? [parse(getComputedStyle(lane).fill)] : [];
        const own = parse(style.fill), outline = parse(style.stroke);
        const shows = parseFloat(style.strokeWidth) >= 2 ? outline : own;
        judge(block, shows, [ground(block), ...behind]);
    }
    for (const mark of document.querySelectorAll('.drawing rect, .drawing circle')) {
        const fill = getComputedStyle(mark).fill;
        if (fill !== 'none' && mark.getBoundingClientRect().width > 0) judge(mark, parse(fill), [ground(mark)]);
    }
    return pale;
}";

/// `rule` behind what computes contrasts.
fn with_contrast(rule: &str) -> String {
    format!("(() => {{ {CONTRAST} return ({rule})(); }})")
}

/// A style's opaque colour, the contrast of two, and the one behind an element.
const CONTRAST: &str = "
    const parse = text => {
        const parts = (text.match(/[\\d.]+/g) || []).map(Number);
        return text.startsWith('rgb') && (parts.length < 4 || parts[3] === 1) ? parts.slice(0, 3) : null;
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const contrast = (one, two) => {
        const [high, low] = [light(one), light(two)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const ground = of => {
        for (let one = of; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour) return colour;
        }
        return [255, 255, 255];
    };
";

/// Pictures without an accessible name, or without a table in their figure; figures of blocks without words for them.
const UNNAMED: &str = "() => [...document.querySelectorAll('[role=img]')]
    .filter(one => !one.getAttribute('aria-label') || !one.closest('figure') || !one.closest('figure').querySelector('table')
        || [...one.querySelectorAll('svg')].some(block => !block.querySelector('title')) && one.tagName === 'svg')
    .map(one => one.outerHTML.slice(0, 200))";

/// Of the page and of each picture: what it is called, and the colours of what it shows. Patterns have the page's.
const COLOURS: &str = "(() => {
    const parts = 'rect, circle, path, polygon, polyline, line, text';
    const drawn = one => [...one.querySelectorAll(parts)].slice(0, 400).map(part => {
        const s = getComputedStyle(part);
        return [s.fill, s.stroke].filter(colour => colour.startsWith('rgb')).join(' ');
    }).filter(colours => colours);
    const worn = [...document.querySelectorAll('body, section, h1, h2, p, a, th, td')].map(one => getComputedStyle(one).color);
    const pictures = [...document.querySelectorAll('[role=img]')].map(one => ({ name: one.getAttribute('aria-label'), colours: drawn(one) }));
    return [{ name: 'page', colours: worn }, { name: 'patterns', colours: drawn(document.querySelector('.patterns')) }, ...pictures];
})()";

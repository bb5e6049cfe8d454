//! What a terminal showed, as a picture for the documents.

use std::fmt::Write;
use std::fs;
use std::num::NonZero;
use std::path::Path;

/// Of the terminal that is drawn, and of a character in it.
const COLUMNS: NonZero<u16> = NonZero::new(120).expect("not nothing");
const ROWS: NonZero<u16> = NonZero::new(100).expect("not nothing");
const WIDTH: f64 = 7.8;
const HEIGHT: f64 = 17.0;
const MARGIN: f64 = 16.0;

/// The lines that stay on a terminal which was sent `bytes`.
pub fn lines(bytes: &str) -> Vec<String> {
    let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
    terminal.process(bytes.as_bytes());
    let rows = terminal.screen().rows(0, COLUMNS.get()).map(|row| row.trim_end().to_owned());
    let mut lines: Vec<String> = rows.collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Holds the picture at `document` to show these lines; where `LSM_WRITE_DOCS` is set, writes it.
///
/// # Panics
/// Where it shows others. Long hexadecimal numbers may be others each time.
#[track_caller]
pub fn hold(document: &str, title: &str, lines: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let drawn = draw(title, lines);
    if std::env::var_os("LSM_WRITE_DOCS").is_some() {
        fs::write(&path, &drawn).expect("the picture is written");
    }
    let kept = fs::read_to_string(&path).expect("the picture");
    assert!(
        without_keys(&kept) == without_keys(&drawn),
        "{document} shows others (LSM_WRITE_DOCS=1 draws it): {drawn}"
    );
}

/// Without what is of one wallet alone.
fn without_keys(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let is_key =
        |word: &str| word.len() > 60 && word.trim_end_matches(['<', ' ']).bytes().all(|b| b.is_ascii_hexdigit());
    words.filter(|word| !is_key(word)).collect()
}

fn draw(title: &str, lines: &[String]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let (width, height) = (columns as f64 * WIDTH + 2.0 * MARGIN, lines.len() as f64 * HEIGHT + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
         aria-labelledby=\"title\" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"13\">\n  <title id=\"title\">{}</title>\n  \
         <rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"8\" fill=\"#0d1117\"/>\n  <g fill=\"#e6edf3\">\n",
        escape(title)
    );
    for (row, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let down = MARGIN + (row as f64 + 0.75) * HEIGHT;
        writeln!(svg, "    <text x=\"{MARGIN}\" y=\"{down:.1}\" xml:space=\"preserve\">{}</text>", escape(line))
            .expect("a string takes it");
    }
    svg + "  </g>\n</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

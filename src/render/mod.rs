//! A Spec as text: lnd's settings, its launch policy, the unit drop-ins, the packet filter.

pub mod compose;
pub mod container;
pub mod launch;
pub mod lnd_conf;
pub mod nft;
pub mod unit;

use crate::error::{Code, Error, Result};

const BROKEN: Code = Code::refused("E-RENDER-001");

/// Renders a template, to whole lines: askama takes a file's last line end away. The only way for it to fail is a formatter
/// that fails.
pub(crate) fn render(template: &impl askama::Template) -> Result<String> {
    let text = template.render().map_err(|e| Error::new(BROKEN, "a template cannot be rendered").because(e))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

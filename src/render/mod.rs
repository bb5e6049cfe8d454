//! A Spec as text: lnd's settings, its launch policy, the unit drop-ins, the packet filter.

pub mod launch;
pub mod lnd_conf;
pub mod nft;
pub mod unit;

use crate::error::{Code, Error, Result};

const BROKEN: Code = Code::refused("E-RENDER-001");

/// Renders a template; the only way for it to fail is a formatter that fails.
pub(crate) fn render(template: &impl askama::Template) -> Result<String> {
    template.render().map_err(|e| Error::new(BROKEN, "a template cannot be rendered").because(e))
}

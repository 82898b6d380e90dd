//! What the catalogue says of a model's size: enough to plan for it without any of its files.

use super::models::{Files, Layout, Model, Quant};
use super::quant;

/// Models of one size have one shape: thousand millions of parameters, and whose shapes these are, as `synth` names it.
const SHAPES: [(f64, &str); 3] = [(671.0, "deepseek-v3"), (236.0, "deepseek-v2.5"), (15.7, "deepseek-v2-lite")];

/// A published quant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size<'a> {
    pub quant: &'a str,
    /// Of all its files together.
    pub bytes: u64,
}

impl Model {
    /// The model whose shapes it has, where these are known.
    pub fn shapes(&self) -> Option<&'static str> {
        SHAPES.iter().find(|(parameters, _)| self.parameters == Some(*parameters)).map(|(_, like)| *like)
    }

    /// The quants whose sizes are known, of the repository that has most of them; of those in today's layout, where
    /// there are any.
    pub fn sizes(&self) -> Vec<Size<'_>> {
        let rank = |files: &&Files| (files.layout == Some(Layout::Mla), known(files).count());
        // Of equal ones the preferred, which is the first.
        self.files.iter().rev().max_by_key(rank).map_or_else(Vec::new, |files| known(files).collect())
    }

    /// How large a quant is, whichever repository has it.
    pub fn size(&self, wanted: &str) -> Option<Size<'_>> {
        self.sizes()
            .into_iter()
            .chain(self.files.iter().flat_map(known))
            .find(|size| quant::is(size.quant, wanted) || quant::is(wanted, size.quant))
    }

    /// The quant to look at where none is named: the largest of those that are recommended.
    pub fn usual_quant(&self) -> Option<&str> {
        let quants = self.files.iter().flat_map(|files| &files.quants).filter(|quant| quant.recommended);
        let largest = quants.max_by(|a, b| a.gb.unwrap_or(0.0).total_cmp(&b.gb.unwrap_or(0.0)));
        largest.map(|quant| quant.name.as_str())
    }
}

impl Quant {
    /// As near as its repository's card says it.
    pub fn bytes(&self) -> Option<u64> {
        self.gb.map(|gb| (gb * 1e9) as u64)
    }
}

fn known(files: &Files) -> impl Iterator<Item = Size<'_>> {
    files.quants.iter().filter_map(|quant| Some(Size { quant: &quant.name, bytes: quant.bytes()? }))
}

#[cfg(test)]
mod tests {
    use super::super::models::models_or_own;
    use super::*;

    fn model(name: &str) -> &'static Model {
        models_or_own().iter().find(|model| model.name == name).unwrap()
    }

    #[test]
    fn sizes_shapes_and_recommendations() {
        let v3 = model("deepseek-v3-0324");
        let sizes: Vec<_> = v3.sizes().iter().map(|size| (size.quant, size.bytes / 1_000_000_000)).collect();
        assert_eq!((sizes.len(), sizes[3]), (6, ("Q2_K_XL", 250)));
        assert_eq!((v3.shapes(), v3.usual_quant()), (Some("deepseek-v3"), Some("Q2_K_XL")));
        assert_eq!(v3.size("ud-q2_k_xl").map(|size| size.bytes), Some(250_000_000_000));
        assert_eq!(v3.size("q8_0").map(|size| size.bytes), Some(713_290_000_000));
        assert_eq!(v3.size("Q1"), None);
        assert_eq!((model("demo").shapes(), model("deepseek-v3-base").sizes()), (None, Vec::new()));
    }
}

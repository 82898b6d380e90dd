//! What the user has decided: `blk.3-10.experts=gpu0`.

use super::Device;
use crate::text::Escaped;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Something that must lie on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub what: Pinned,
    pub device: Device,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    Head,
    /// Routed experts of layers.
    Experts(RangeInclusive<usize>),
    /// All of a layer but its routed experts, with its cache.
    Rest(RangeInclusive<usize>),
    /// Both.
    Layers(RangeInclusive<usize>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is no pin: one is WHAT=DEVICE, such as blk.3-10.experts=gpu0, blk.*.rest=gpu1, blk.5=ram or head=gpu0",
    Escaped(.0)
)]
pub struct BadPin(pub String);

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Pin, BadPin> {
        let parsed = text
            .split_once('=')
            .and_then(|(what, device)| Some(Pin { what: pinned(what.trim())?, device: device_named(device.trim())? }));
        parsed.ok_or_else(|| BadPin(text.to_owned()))
    }
}

fn device_named(text: &str) -> Option<Device> {
    match text {
        "ram" | "cpu" => Some(Device::Ram),
        _ => text.strip_prefix("gpu")?.parse().ok().map(Device::Gpu),
    }
}

fn pinned(text: &str) -> Option<Pinned> {
    if text == "head" {
        return Some(Pinned::Head);
    }
    let rest = text.strip_prefix("blk.")?;
    match rest.split_once('.') {
        None => Some(Pinned::Layers(layers(rest)?)),
        Some((range, "experts")) => Some(Pinned::Experts(layers(range)?)),
        Some((range, "rest")) => Some(Pinned::Rest(layers(range)?)),
        Some(_) => None,
    }
}

/// `7`, `3-10` or `*`
fn layers(text: &str) -> Option<RangeInclusive<usize>> {
    if text == "*" {
        return Some(0..=usize::MAX);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read() {
        for (text, what, device) in [
            ("blk.3-10.experts=gpu0", Pinned::Experts(3..=10), Device::Gpu(0)),
            ("blk.*.rest=gpu12", Pinned::Rest(0..=usize::MAX), Device::Gpu(12)),
            ("blk.5=ram", Pinned::Layers(5..=5), Device::Ram),
            ("head = cpu", Pinned::Head, Device::Ram),
        ] {
            assert_eq!(text.parse(), Ok(Pin { what, device }), "{text}");
        }
        for wrong in ["", "head", "blk.3", "blk.3=", "blk.10-3=ram", "blk.3.attn=ram", "blk.x=ram", "head=gpu", "a=ram"]
        {
            assert_eq!(wrong.parse::<Pin>(), Err(BadPin(wrong.to_owned())));
        }
    }
}

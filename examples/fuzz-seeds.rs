//! Writes the files that fuzzing starts from into a folder.

#[path = "../tests/support/models.rs"]
#[allow(dead_code, unreachable_pub)]
mod models;
#[path = "../tests/support/raw.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw;

use cachalot::gguf::Split;
use models::write_tiny;
use raw::Raw;
use std::path::Path;

fn main() {
    let folder = std::env::args().nth(1).expect("usage: fuzz-seeds FOLDER");
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder can be made");
    write_tiny(&folder.join("whole.gguf"), Split::None);
    write_tiny(&folder.join("split.gguf"), Split::MaxTensors(12));
    let values = Raw::new()
        .key("u8", 0, &[1])
        .key("i8", 1, &[1])
        .u16("u16", 2)
        .key("i16", 3, &[1, 0])
        .i32("i32", 3)
        .f32("f32", 1.0)
        .key("bool", 7, &[1])
        .key("u64", 10, &[9; 8])
        .key("i64", 11, &[9; 8])
        .key("f64", 12, &[9; 8])
        .u32("general.alignment", 64)
        .array("bools", 7, 3, &[0, 1, 0])
        .strings("strings", &["a", "", "｜"])
        .tensor("w", &[8, 2], 0, 0)
        .tensor("q", &[256], 12, 64)
        .data(64 + 256);
    std::fs::write(folder.join("values.gguf"), values.bytes()).expect("the seed can be written");
}

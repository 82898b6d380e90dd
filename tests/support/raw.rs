//! GGUF bytes, right or wrong, put together by hand: independent of the program's own writer.

/// A file in the making.
#[derive(Clone)]
pub struct Raw {
    pub magic: [u8; 4],
    pub version: u32,
    /// Instead of the true numbers of tensors and keys.
    pub n_tensors: Option<i64>,
    pub n_keys: Option<i64>,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    pub alignment: usize,
    /// Follows the padded header.
    pub data: Vec<u8>,
}

impl Raw {
    /// A file with an architecture and nothing else.
    pub fn new() -> Raw {
        Raw::new_arch("test")
    }

    pub fn new_arch(architecture: &str) -> Raw {
        Raw {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_keys: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
        .key("general.architecture", 8, &string(architecture))
    }

    pub fn key(self, name: &str, ty: u32, value: &[u8]) -> Raw {
        self.key_bytes(name.as_bytes(), ty, value)
    }

    pub fn key_bytes(mut self, name: &[u8], ty: u32, value: &[u8]) -> Raw {
        self.keys.push([string_bytes(name), ty.to_le_bytes().to_vec(), value.to_vec()].concat());
        self
    }

    pub fn u32(self, name: &str, value: u32) -> Raw {
        self.key(name, 4, &value.to_le_bytes())
    }

    pub fn u16(self, name: &str, value: u16) -> Raw {
        self.key(name, 2, &value.to_le_bytes())
    }

    pub fn i32(self, name: &str, value: i32) -> Raw {
        self.key(name, 5, &value.to_le_bytes())
    }

    pub fn f32(self, name: &str, value: f32) -> Raw {
        self.key(name, 6, &value.to_le_bytes())
    }

    pub fn text(self, name: &str, value: &str) -> Raw {
        self.key(name, 8, &string(value))
    }

    /// An array that says it has `len` elements of type `element`, with `bytes` for them.
    pub fn array(self, name: &str, element: u32, len: u64, bytes: &[u8]) -> Raw {
        self.key(name, 9, &[&element.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat())
    }

    pub fn strings(self, name: &str, values: &[&str]) -> Raw {
        let bytes: Vec<u8> = values.iter().flat_map(|value| string(value)).collect();
        self.array(name, 8, values.len() as u64, &bytes)
    }

    /// A value of an unfinished kind: bytes as they are, after the key's name.
    pub fn key_unfinished(mut self, name: &str, bytes: &[u8]) -> Raw {
        self.keys.push([string(name), bytes.to_vec()].concat());
        self
    }

    pub fn tensor(self, name: &str, dims: &[i64], ty: u32, offset: u64) -> Raw {
        self.tensor_with_dims(name.as_bytes(), dims.len() as u32, dims, ty, offset)
    }

    pub fn tensor_with_dims(mut self, name: &[u8], n_dims: u32, dims: &[i64], ty: u32, offset: u64) -> Raw {
        let dims: Vec<u8> = dims.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.tensors.push(
            [
                string_bytes(name),
                n_dims.to_le_bytes().into(),
                dims,
                ty.to_le_bytes().into(),
                offset.to_le_bytes().into(),
            ]
            .concat(),
        );
        self
    }

    /// A tensor's entry, as it is.
    pub fn tensor_raw(mut self, entry: &[u8]) -> Raw {
        self.tensors.push(entry.to_vec());
        self
    }

    pub fn data(mut self, len: usize) -> Raw {
        self.data = vec![0; len];
        self
    }

    /// The bytes before the data, padded.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.n_tensors.unwrap_or(self.tensors.len() as i64).to_le_bytes());
        bytes.extend(self.n_keys.unwrap_or(self.keys.len() as i64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        if !self.tensors.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        }
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.header(), self.data.clone()].concat()
    }
}

/// A length and the bytes.
pub fn string(text: &str) -> Vec<u8> {
    string_bytes(text.as_bytes())
}

pub fn string_bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

//! Reads the running kernel's type information (BTF), to find where fields lie in its structs.
//!
//! rustc emits no relocations against kernel types, and bindings generated on another kernel would silently misread this
//! one. So the offsets are looked up at start and set as constants of the programs before they are loaded. Only what that
//! needs is read: names, structs, unions and their members. The layout is `Documentation/bpf/btf.rst` of the kernel.

use std::{collections::HashMap, fs, io, path::Path};

/// Where the kernel shows its own types.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
const KIND_MAX: u32 = 19;

/// How deep anonymous structs within structs are followed.
const DEPTH_MAX: u32 = 8;

/// Why a kernel's types cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel shows none.
    #[error("cannot read {path}: the kernel must be built with CONFIG_DEBUG_INFO_BTF")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no BTF of this machine's byte order.
    #[error("not BTF: {0}")]
    Malformed(&'static str),
}

/// The structs and unions of a kernel.
#[derive(Debug)]
pub struct Btf {
    /// Position of every type's record, by type id; id 0 is `void`.
    records: Vec<usize>,
    /// Type id of every struct and union that has a name.
    names: HashMap<String, u32>,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Btf {
    /// The running kernel's.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(KERNEL))
    }

    /// Reads a file of raw BTF.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = fs::read(path)
            .map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(&bytes)
    }

    /// Parses raw BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let header = |at: usize| {
            word(bytes, at).map(|value| value as usize).ok_or(BtfError::Malformed("no header"))
        };
        let magic = bytes.get(..2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        let start = header(4)?;
        let part = |offset: usize, length: usize| {
            let from = start.checked_add(offset)?;
            bytes.get(from..from.checked_add(length)?).map(<[u8]>::to_vec)
        };
        let types = part(header(8)?, header(12)?)
            .ok_or(BtfError::Malformed("the types lie outside the file"))?;
        let strings = part(header(16)?, header(20)?)
            .ok_or(BtfError::Malformed("the names lie outside the file"))?;
        let mut btf = Self { records: vec![0], names: HashMap::new(), types, strings };
        btf.index()?;
        Ok(btf)
    }

    /// Offset in bytes of a field, which may lie in anonymous structs and unions, or be a path (`mnt.mnt_root`) through
    /// named ones. `None` when this kernel has no such field, or it is a bit field.
    pub fn offset(&self, of: &str, field: &str) -> Option<u32> {
        let mut id = *self.names.get(of)?;
        let mut offset = 0;
        for name in field.split('.') {
            let (bits, inner) = self.member(id, name, 0)?;
            offset += bits;
            id = inner;
        }
        offset.is_multiple_of(8).then_some(offset / 8)
    }

    /// Whether programs can attach to a tracepoint by its types (`tp_btf`).
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.records.iter().skip(1).any(|at| {
            let words = word(&self.types, *at).zip(word(&self.types, at + 4));
            words.is_some_and(|(text, info)| {
                kind(info) == KIND_TYPEDEF
                    && self.string(text).and_then(|text| text.strip_prefix("btf_trace_"))
                        == Some(name)
            })
        })
    }

    /// Walks all records once, remembering where each begins.
    fn index(&mut self) -> Result<(), BtfError> {
        let cut = BtfError::Malformed("a type is cut off");
        let mut at = 0;
        while at < self.types.len() {
            let (Some(name), Some(info)) = (word(&self.types, at), word(&self.types, at + 4))
            else {
                return Err(cut);
            };
            let Some(extra) = extra_bytes(info) else {
                return Err(BtfError::Malformed("a kind of type that is not known"));
            };
            let id = self.records.len() as u32;
            if matches!(kind(info), KIND_STRUCT | KIND_UNION)
                && let Some(name) = self.string(name).filter(|name| !name.is_empty())
            {
                self.names.entry(name.to_owned()).or_insert(id);
            }
            self.records.push(at);
            at += 12 + extra;
        }
        if at == self.types.len() { Ok(()) } else { Err(cut) }
    }

    /// Offset in bits and type of a member, looking into anonymous ones.
    fn member(&self, id: u32, wanted: &str, depth: u32) -> Option<(u32, u32)> {
        let at = *self.records.get(self.plain(id)? as usize)?;
        let info = word(&self.types, at + 4)?;
        if !matches!(kind(info), KIND_STRUCT | KIND_UNION) || depth > DEPTH_MAX {
            return None;
        }
        let bit_fields = info >> 31 != 0;
        for i in 0..(info & 0xffff) as usize {
            let member = at + 12 + 12 * i;
            let name = self.string(word(&self.types, member)?)?;
            let inner = word(&self.types, member + 4)?;
            let place = word(&self.types, member + 8)?;
            let (bits, width) =
                if bit_fields { (place & 0x00ff_ffff, place >> 24) } else { (place, 0) };
            if name == wanted {
                return (width == 0).then_some((bits, inner));
            }
            if name.is_empty()
                && let Some((within, found)) = self.member(inner, wanted, depth + 1)
            {
                return Some((bits + within, found));
            }
        }
        None
    }

    /// The type behind qualifiers and type names.
    fn plain(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH_MAX {
            let at = *self.records.get(id as usize).filter(|_| id != 0)?;
            // Typedef, volatile, const, restrict, type tag.
            if !matches!(kind(word(&self.types, at + 4)?), 8..=11 | 18) {
                return Some(id);
            }
            id = word(&self.types, at + 8)?;
        }
        None
    }

    fn string(&self, at: u32) -> Option<&str> {
        let rest = self.strings.get(at as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes that follow the three words of a type's record.
const fn extra_bytes(info: u32) -> Option<usize> {
    let members = (info & 0xffff) as usize;
    match kind(info) {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => Some(4),
        KIND_ARRAY => Some(12),
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => Some(12 * members),
        KIND_ENUM | KIND_FUNC_PROTO => Some(8 * members),
        0 => None,
        known if known <= KIND_MAX => Some(0),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().expect("four bytes were taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF of `struct outer { u32 first; struct { u32 second; }; }` and its integer.
    fn sample() -> Vec<u8> {
        let strings = b"\0u32\0outer\0first\0second\0btf_trace_fork\0";
        let mut types = Vec::new();
        let mut push = |words: &[u32]| {
            for word in words {
                types.extend_from_slice(&word.to_ne_bytes());
            }
        };
        push(&[1, KIND_INT << 24, 4, 32]);
        push(&[0, KIND_STRUCT << 24 | 1, 4, 17, 1, 0]);
        push(&[5, KIND_STRUCT << 24 | 2, 8, 11, 1, 0, 0, 2, 32]);
        push(&[24, KIND_TYPEDEF << 24, 1]);
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&types);
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn a_field_of_an_anonymous_struct_is_found_from_outside() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset("outer", "first"), Some(0));
        assert_eq!(btf.offset("outer", "second"), Some(4));
    }

    #[test]
    fn what_the_kernel_does_not_have_is_not_found() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset("outer", "third"), None);
        assert_eq!(btf.offset("inner", "first"), None);
    }

    #[test]
    fn a_tracepoint_is_known_by_its_type() {
        let btf = Btf::parse(&sample()).unwrap();
        assert!(btf.has_tracepoint("fork"));
        assert!(!btf.has_tracepoint("outer"));
    }

    #[test]
    fn every_cut_of_the_bytes_is_an_error_and_never_a_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(Btf::parse(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_kernel_without_types_is_told_with_the_option_that_brings_them() {
        let error = Btf::read(Path::new("/nowhere/vmlinux")).unwrap_err();
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }
}

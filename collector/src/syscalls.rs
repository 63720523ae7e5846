//! Calls by name, so that baselines travel between architectures and a foreign ABI's number is never taken for a native
//! one: 20 is `writev` to a 64-bit process and `getpid` to `int 0x80`.

use bulkhead_domain::window::Arch;

/// The interface through which a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// The instruction set's own.
    Native(Arch),
    /// 32-bit x86 on a 64-bit kernel, `int 0x80` included.
    I386,
    /// The x32 interface: a 64-bit call number with bit 30 set.
    X32,
}

/// A call's name, with `i386:` or `x32:` before that of a foreign interface.
///
/// A number without a name is `#N`: newer than the table, or none at all.
pub fn name(abi: Abi, number: u32) -> String {
    let known = usize::try_from(number).ok().and_then(|number| match abi {
        Abi::Native(Arch::X86_64) | Abi::X32 => {
            syscalls::x86_64::Sysno::new(number).map(|call| call.name())
        }
        Abi::Native(Arch::Aarch64) => syscalls::aarch64::Sysno::new(number).map(|call| call.name()),
        Abi::I386 => syscalls::x86::Sysno::new(number).map(|call| call.name()),
    });
    let name = known.map_or_else(|| format!("#{number}"), str::to_owned);
    match abi {
        Abi::Native(_) => name,
        Abi::I386 => format!("i386:{name}"),
        Abi::X32 => format!("x32:{name}"),
    }
}

/// The instruction set that this program runs on.
pub const fn native() -> Arch {
    if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_another_call_in_another_interface() {
        assert_eq!(name(Abi::Native(Arch::X86_64), 20), "writev");
        assert_eq!(name(Abi::I386, 20), "i386:getpid");
        assert_eq!(name(Abi::X32, 20), "x32:writev");
        assert_eq!(name(Abi::Native(Arch::Aarch64), 221), "execve");
    }

    #[test]
    fn a_number_without_a_name_keeps_its_number() {
        assert_eq!(name(Abi::Native(Arch::X86_64), 100_000), "#100000");
    }
}

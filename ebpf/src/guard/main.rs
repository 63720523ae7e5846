//! The guards: they refuse, drop and hold back, and go on doing so from their pins when every daemon is dead.
//!
//! One verdict (`verdict.rs`), asked from four places: calls (`connect.rs`), sockets' packets (`packet.rs`), the
//! container's interface (`interface.rs`), and new cgroups that nobody has named (`cgroup.rs`).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod cgroup;
mod connect;
mod header;
mod interface;
mod maps;
mod packet;
mod slots;
mod verdict;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

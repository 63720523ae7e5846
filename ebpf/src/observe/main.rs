//! What the kernel observes of containers. Dies with the agent: nothing here is pinned, and nothing here decides.
#![no_std]
#![no_main]

mod dns;
mod network;
mod offsets;
mod process;
mod ring;
mod slots;
mod syscall;
mod task;

use bulkhead_ebpf::atomic;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No code path panics: the verifier would refuse the loop.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

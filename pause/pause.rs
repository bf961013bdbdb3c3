//! The process that holds a pod's namespaces: it sleeps, reaps what is orphaned to it, and ends on SIGTERM or SIGINT.
//!
//! It stands alone in its image, so it is a static program without any library: it talks to the kernel itself. As
//! process 1 of its namespace it gets no default signal actions, so every signal it must obey has a handler. `build.rs`
//! compiles it.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use core::ptr;

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SA_RESTORER: usize = 0x0400_0000;
const WNOHANG: usize = 1;
/// Bytes in the kernel's signal set.
const SIGSET_BYTES: usize = 8;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGACTION: usize = 13;
    pub const PAUSE_OR_PPOLL: usize = 34;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGACTION: usize = 134;
    /// This architecture has no `pause`; `ppoll` of nothing, without a time limit, is the same.
    pub const PAUSE_OR_PPOLL: usize = 73;
    pub const EXIT: usize = 93;
    pub const WAIT4: usize = 260;
}

/// The kernel's `struct sigaction`.
#[repr(C)]
struct SignalAction {
    handler: extern "C" fn(i32),
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// A system call with up to four arguments.
///
/// # Safety
/// Pointers among the arguments must be valid for what the call does with them.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the instruction and its clobbers are the kernel's documented convention; the rest is the caller's duty.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// As above.
///
/// # Safety
/// Pointers among the arguments must be valid for what the call does with them.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the instruction and its registers are the kernel's documented convention; the rest is the caller's duty.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
             in("x4") 0, options(nostack));
    }
    result
}

extern "C" fn end(_: i32) {
    // SAFETY: no pointers; the call does not return.
    unsafe { call(number::EXIT, 0, 0, 0, 0) };
}

extern "C" fn reap(_: i32) {
    // SAFETY: null pointers tell the kernel to report neither status nor usage.
    while unsafe { call(number::WAIT4, usize::MAX, 0, WNOHANG, 0) } > 0 {}
}

/// Where a handler returns to on x86_64, which must ask the kernel to restore the interrupted frame.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn restore() {
    naked_asm!("mov rax, 15", "syscall")
}

#[cfg(target_arch = "x86_64")]
fn restorer() -> (usize, usize) {
    (SA_RESTORER, restore as *const () as usize)
}

/// The kernel brings its own trampoline here.
#[cfg(target_arch = "aarch64")]
fn restorer() -> (usize, usize) {
    let _ = SA_RESTORER;
    (0, 0)
}

fn handle(signal: usize, handler: extern "C" fn(i32)) {
    let (flags, restorer) = restorer();
    let action = SignalAction { handler, flags, restorer, mask: 0 };
    // SAFETY: `action` lives across the call and has the kernel's layout; no former action is asked for.
    unsafe { call(number::RT_SIGACTION, signal, ptr::from_ref(&action) as usize, 0, SIGSET_BYTES) };
}

extern "C" fn main() -> ! {
    handle(SIGINT, end);
    handle(SIGTERM, end);
    handle(SIGCHLD, reap);
    // What ended before the handler stood.
    reap(0);
    loop {
        // SAFETY: null pointers and no descriptors: the call only waits for a signal.
        unsafe { call(number::PAUSE_OR_PPOLL, 0, 0, 0, 0) };
    }
}

/// The entry point: the kernel jumps here with a 16-byte aligned stack, while a function expects a return address on it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym main)
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov x29, #0", "mov x30, #0", "b {main}", main = sym main)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    end(0);
    loop {}
}

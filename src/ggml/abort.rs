//! The last words of ggml.
//!
//! An assertion in ggml ends the process; nothing can stop that. What can be had is one line that
//! names it and the exit code for an internal error, instead of a backtrace and a core dump.

use std::ffi::{CStr, c_char, c_void};

/// Exit code for a fault of the program itself.
const EXIT_INTERNAL: i32 = 70;

/// ggml has said by then what the driver's answer was.
const IF_A_GPU_FAILS: &str = "if its memory is short, leave it more with --vram; --gpu-layers 0 computes without it; \
    what the driver has to say is in `dmesg`";

/// Takes over ggml's abort message and its log: errors and warnings go to stderr, the rest nowhere.
pub fn install() {
    // SAFETY: both callbacks are `extern "C"` functions that do not unwind and live for ever.
    unsafe {
        ggml_sys::ggml_set_abort_callback(Some(on_abort));
        ggml_sys::ggml_log_set(Some(on_log), std::ptr::null_mut());
    }
}

extern "C" fn on_abort(message: *const c_char) {
    // SAFETY: ggml passes a NUL-terminated string.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    crate::last_words::run();
    match message.contains("CUDA error") {
        true => eprintln!("cachalot: the GPU failed, as is said above ({message}); {IF_A_GPU_FAILS}"),
        false => {
            eprintln!("cachalot: internal error in ggml: {message}; please report it, with the command and the model")
        }
    }
    // SAFETY: `_exit` ends the process without running what the fault may have broken.
    unsafe { libc::_exit(EXIT_INTERNAL) }
}

extern "C" fn on_log(level: ggml_sys::ggml_log_level, text: *const c_char, _data: *mut c_void) {
    if matches!(level, ggml_sys::GGML_LOG_LEVEL_WARN | ggml_sys::GGML_LOG_LEVEL_ERROR) {
        // SAFETY: ggml passes a NUL-terminated string.
        eprint!("ggml: {}", unsafe { CStr::from_ptr(text) }.to_string_lossy());
    }
}

/// What no caller of this crate can do.
#[cfg(test)]
pub(crate) fn fail_an_assertion() {
    // SAFETY: none; an ill-formed call on purpose, which ggml answers with its assertion.
    unsafe {
        let params = ggml_sys::ggml_init_params { mem_size: 1 << 20, mem_buffer: std::ptr::null_mut(), no_alloc: true };
        let ctx = ggml_sys::ggml_init(params);
        let a = ggml_sys::ggml_new_tensor_1d(ctx, ggml_sys::GGML_TYPE_F32, 3);
        let b = ggml_sys::ggml_new_tensor_1d(ctx, ggml_sys::GGML_TYPE_F32, 4);
        ggml_sys::ggml_mul_mat(ctx, a, b);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Runs in a process of its own: the assertion ends it.
    #[test]
    #[ignore = "the child of an_assertion_in_ggml_ends_with_a_message"]
    fn child() {
        super::install();
        super::fail_an_assertion();
    }

    #[test]
    fn an_assertion_in_ggml_ends_with_a_message() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ggml::abort::tests::child", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(super::EXIT_INTERNAL), "{stderr}");
        assert!(stderr.contains("cachalot: internal error in ggml: "), "{stderr}");
        assert!(stderr.contains("ggml_can_mul_mat"), "{stderr}");
    }
}

//! The committed bindings against what the C compiler made of the same structs.

use ggml_sys as sys;
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::mem::{align_of, offset_of, size_of};

#[repr(C)]
struct Layout {
    ty: *const c_char,
    field: *const c_char,
    first: usize,
    second: usize,
}

unsafe extern "C" {
    static ggml_sys_layouts: [Layout; 0];
}

/// (struct, field) → offset and size; (struct, "") → size and alignment.
fn compiled() -> HashMap<(String, String), (usize, usize)> {
    // SAFETY: the table in layout.c ends with an entry whose `ty` is null; the others are C strings.
    unsafe {
        let text = |p| CStr::from_ptr(p).to_str().unwrap().to_owned();
        let first: *const Layout = (&raw const ggml_sys_layouts).cast();
        (0..)
            .map(|i| &*first.add(i))
            .take_while(|layout| !layout.ty.is_null())
            .map(|l| ((text(l.ty), text(l.field)), (l.first, l.second)))
            .collect()
    }
}

macro_rules! bound {
    ($($ty:ident { $($field:ident),* })*) => {
        vec![$(
            ((stringify!($ty), ""), (size_of::<sys::$ty>(), align_of::<sys::$ty>())),
            $(((stringify!($ty), stringify!($field)), (offset_of!(sys::$ty, $field), field_size(|s: &sys::$ty| &raw const s.$field))),)*
        )*]
    };
}

fn field_size<S, F>(_: fn(&S) -> *const F) -> usize {
    size_of::<F>()
}

#[test]
fn the_bindings_have_the_layout_that_the_compiler_gave() {
    let bound = bound! {
        ggml_tensor { buffer, ne, nb, op, op_params, flags, src, view_src, view_offs, data, name, extra }
        ggml_init_params { mem_size, mem_buffer, no_alloc }
        ggml_cplan { work_size, work_data, n_threads, abort_callback_data }
        ggml_type_traits { blck_size, type_size, to_float, from_float_ref }
        ggml_type_traits_cpu { vec_dot, nrows }
        ggml_backend_dev_props { memory_free, caps }
        ggml_backend_dev_caps { }
        ggml_backend_feature { }
        ggml_threadpool_params { cpumask, n_threads, paused }
        ggml_tallocr { }
        gguf_init_params { }
    };
    // `type` is a keyword here, `type_` in the bindings.
    let mut bound: HashMap<_, _> =
        bound.into_iter().map(|((ty, field), layout)| ((ty.to_owned(), field.to_owned()), layout)).collect();
    let tensor_type = (offset_of!(sys::ggml_tensor, type_), size_of::<sys::ggml_type>());
    bound.insert(("ggml_tensor".to_owned(), "type".to_owned()), tensor_type);
    let props_type = (offset_of!(sys::ggml_backend_dev_props, type_), size_of::<sys::ggml_backend_dev_type>());
    bound.insert(("ggml_backend_dev_props".to_owned(), "type".to_owned()), props_type);
    assert_eq!(bound, compiled());
}

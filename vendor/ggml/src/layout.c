/* What the compiler that builds ggml makes of its structs, for the test that holds the committed
 * bindings against it. */

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"

#include <stddef.h>
#include <stdint.h>

#define SIZE(type) { #type, "", sizeof(type), _Alignof(type) }
#define FIELD(type, field) { #type, #field, offsetof(type, field), sizeof(((type *) 0)->field) }

/* field == "": size and alignment of the struct; else offset and size of the field. */
struct ggml_sys_layout {
    const char * type;
    const char * field;
    size_t       first;
    size_t       second;
};

typedef struct ggml_tensor             ggml_tensor;
typedef struct ggml_init_params        ggml_init_params;
typedef struct ggml_cplan              ggml_cplan;
typedef struct ggml_type_traits        ggml_type_traits;
typedef struct ggml_type_traits_cpu    ggml_type_traits_cpu;
typedef struct ggml_backend_dev_props  ggml_backend_dev_props;
typedef struct ggml_backend_dev_caps   ggml_backend_dev_caps;
typedef struct ggml_backend_feature    ggml_backend_feature;
typedef struct ggml_threadpool_params  ggml_threadpool_params;
typedef struct ggml_tallocr            ggml_tallocr;
typedef struct gguf_init_params        gguf_init_params;

const struct ggml_sys_layout ggml_sys_layouts[] = {
    SIZE(ggml_tensor),
    FIELD(ggml_tensor, type),
    FIELD(ggml_tensor, buffer),
    FIELD(ggml_tensor, ne),
    FIELD(ggml_tensor, nb),
    FIELD(ggml_tensor, op),
    FIELD(ggml_tensor, op_params),
    FIELD(ggml_tensor, flags),
    FIELD(ggml_tensor, src),
    FIELD(ggml_tensor, view_src),
    FIELD(ggml_tensor, view_offs),
    FIELD(ggml_tensor, data),
    FIELD(ggml_tensor, name),
    FIELD(ggml_tensor, extra),
    SIZE(ggml_init_params),
    FIELD(ggml_init_params, mem_size),
    FIELD(ggml_init_params, mem_buffer),
    FIELD(ggml_init_params, no_alloc),
    SIZE(ggml_cplan),
    FIELD(ggml_cplan, work_size),
    FIELD(ggml_cplan, work_data),
    FIELD(ggml_cplan, n_threads),
    FIELD(ggml_cplan, abort_callback_data),
    SIZE(ggml_type_traits),
    FIELD(ggml_type_traits, blck_size),
    FIELD(ggml_type_traits, type_size),
    FIELD(ggml_type_traits, to_float),
    FIELD(ggml_type_traits, from_float_ref),
    SIZE(ggml_type_traits_cpu),
    FIELD(ggml_type_traits_cpu, vec_dot),
    FIELD(ggml_type_traits_cpu, nrows),
    SIZE(ggml_backend_dev_props),
    FIELD(ggml_backend_dev_props, memory_free),
    FIELD(ggml_backend_dev_props, type),
    FIELD(ggml_backend_dev_props, caps),
    SIZE(ggml_backend_dev_caps),
    SIZE(ggml_backend_feature),
    SIZE(ggml_threadpool_params),
    FIELD(ggml_threadpool_params, cpumask),
    FIELD(ggml_threadpool_params, n_threads),
    FIELD(ggml_threadpool_params, paused),
    SIZE(ggml_tallocr),
    SIZE(gguf_init_params),
    { 0, 0, 0, 0 },
};

// cuBLAS, opened when it is needed: a program that is linked with it does not start where it is not installed.
// What ggml's CUDA backend calls is defined here and handed on. ggml_sys_cublas_open() is to be asked before the
// backend is used; without the library every function answers CUBLAS_STATUS_NOT_INITIALIZED.

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublas.so." TEXT(CUDA_VERSION_MAJOR)

enum { NOT_INITIALIZED = 1 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void * library;
static char problem[512];

static int open_in(const char * home, const char * folder) {
    char path[4096];
    if (home == NULL || (size_t) snprintf(path, sizeof path, "%s/%s/" LIBRARY, home, folder) >= sizeof path) {
        return 0;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return library != NULL;
}

static void open_library(void) {
    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        return;
    }
    const char * error = dlerror();
    snprintf(problem, sizeof problem, "%s", error != NULL ? error : LIBRARY " cannot be opened");
    const char * homes[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda"};
    for (size_t i = 0; i < sizeof homes / sizeof *homes; i++) {
        if (open_in(homes[i], "lib64") || open_in(homes[i], "lib")) {
            return;
        }
    }
}

const char * ggml_sys_cublas_open(void) {
    pthread_once(&once, open_library);
    return library != NULL ? NULL : problem;
}

static void * find(const char * name) {
    return ggml_sys_cublas_open() == NULL ? dlsym(library, name) : NULL;
}

// Statuses, modes, types and the like are C enums, and thus ints.
#define HAND_ON(name, parameters, arguments)                   \
    int name parameters {                                      \
        int(*function) parameters = (int(*) parameters) find(#name); \
        return function != NULL ? function arguments : NOT_INITIALIZED; \
    }

typedef void * handle;

HAND_ON(cublasCreate_v2, (handle * h), (h))
HAND_ON(cublasDestroy_v2, (handle h), (h))
HAND_ON(cublasSetStream_v2, (handle h, void * stream), (h, stream))
HAND_ON(cublasSetWorkspace_v2, (handle h, void * workspace, size_t bytes), (h, workspace, bytes))

// ggml asks for TF32, which rounds F32 to ten bits. What is F32 in these models is the router, of which a wrong choice
// among experts comes, and it is small: it is multiplied as it is.
int cublasSetMathMode(handle h, int mode) {
    enum { DEFAULT_MATH = 0, TF32_TENSOR_OP_MATH = 3 };
    int (*function)(handle, int) = (int (*)(handle, int)) find("cublasSetMathMode");
    return function != NULL ? function(h, mode == TF32_TENSOR_OP_MATH ? DEFAULT_MATH : mode) : NOT_INITIALIZED;
}

HAND_ON(cublasSgemm_v2,
    (handle h, int ta, int tb, int m, int n, int k, const float * alpha, const float * a, int lda, const float * b,
     int ldb, const float * beta, float * c, int ldc),
    (h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc))

HAND_ON(cublasSgemmBatched,
    (handle h, int ta, int tb, int m, int n, int k, const float * alpha, const float * const * a, int lda,
     const float * const * b, int ldb, const float * beta, float * const * c, int ldc, int count),
    (h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count))

HAND_ON(cublasSgemmStridedBatched,
    (handle h, int ta, int tb, int m, int n, int k, const float * alpha, const float * a, int lda, long long sa,
     const float * b, int ldb, long long sb, const float * beta, float * c, int ldc, long long sc, int count),
    (h, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count))

HAND_ON(cublasGemmEx,
    (handle h, int ta, int tb, int m, int n, int k, const void * alpha, const void * a, int type_a, int lda,
     const void * b, int type_b, int ldb, const void * beta, void * c, int type_c, int ldc, int compute, int algo),
    (h, ta, tb, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, compute, algo))

HAND_ON(cublasGemmBatchedEx,
    (handle h, int ta, int tb, int m, int n, int k, const void * alpha, const void * const * a, int type_a, int lda,
     const void * const * b, int type_b, int ldb, const void * beta, void * const * c, int type_c, int ldc, int count,
     int compute, int algo),
    (h, ta, tb, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, count, compute, algo))

HAND_ON(cublasGemmStridedBatchedEx,
    (handle h, int ta, int tb, int m, int n, int k, const void * alpha, const void * a, int type_a, int lda,
     long long sa, const void * b, int type_b, int ldb, long long sb, const void * beta, void * c, int type_c, int ldc,
     long long sc, int count, int compute, int algo),
    (h, ta, tb, m, n, k, alpha, a, type_a, lda, sa, b, type_b, ldb, sb, beta, c, type_c, ldc, sc, count, compute, algo))

HAND_ON(cublasStrsmBatched,
    (handle h, int side, int uplo, int trans, int diag, int m, int n, const float * alpha, const float * const * a,
     int lda, float * const * b, int ldb, int count),
    (h, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb, count))

const char * cublasGetStatusString(int status) {
    const char *(*function)(int) = (const char *(*) (int)) find("cublasGetStatusString");
    return function != NULL ? function(status) : problem;
}

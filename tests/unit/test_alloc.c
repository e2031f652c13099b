/*
 * test_alloc.c - every allocation fails once.
 *
 * An operation is repeated with its first, second, ... allocation failing,
 * until it gets through. Each failure must be told as such (ENOMEM, or 503),
 * with the result untouched; what leaks on the way is ASan's to find. The
 * linker puts our malloc (--wrap, see the Makefile) before everybody else's in
 * C, and the dynamic linker our operator new before libstdc++'s, so
 * SentencePiece's own allocations fail, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/tiny.h"

#include "core/model/model.h"
#include "server/auth.h"
#include "server/jsoncheck.h"
#include "server/params.h"
#include "server/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- memory that runs out ------------------------------------------------ */

static _Thread_local long left = -1; /* allocations that succeed; -1: all */
static _Thread_local bool failed;

static bool fails(void)
{
    if (left < 0 || left-- > 0)
        return false;
    failed = true;
    return true;
}

#define WRAP(type, name, params, args, nothing)                                \
    type __real_##name params;                                                 \
    type __wrap_##name params;                                                 \
    type __wrap_##name params                                                  \
    {                                                                          \
        if (fails()) {                                                         \
            errno = ENOMEM;                                                    \
            return nothing;                                                    \
        }                                                                      \
        return __real_##name args;                                             \
    }

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(void *, aligned_alloc, (size_t a, size_t n), (a, n), NULL)
WRAP(char *, strdup, (const char *s), (s), NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), NULL)
WRAP(void *, mmap, (void *p, size_t n, int prot, int flags, int fd, off_t at),
     (p, n, prot, flags, fd, at), MAP_FAILED)
WRAP(int, pthread_create,
     (pthread_t * t, const pthread_attr_t *a, void *(*fn)(void *), void *arg),
     (t, a, fn, arg), EAGAIN)
/* PCRE2 allocates inside its library; what fails there is its result. */
WRAP(void *, pcre2_compile_8,
     (const uint8_t *s, size_t n, uint32_t o, int *e, size_t *at, void *c),
     (s, n, o, e, at, c), NULL)
WRAP(void *, pcre2_match_data_create_8, (uint32_t n, void *c), (n, c), NULL)

/* operator new(size_t) and std::__throw_bad_alloc(), by their linker names. */
void *__real__Znwm(size_t n);
void *__wrap__Znwm(size_t n);
_Noreturn void _ZSt17__throw_bad_allocv(void);

void *__wrap__Znwm(size_t n)
{
    if (fails())
        _ZSt17__throw_bad_allocv();
    return __real__Znwm(n);
}

/*
 * Run op with ever later failures. It returns a status; `no_memory` is what it
 * must return when something failed. Returns how many allocations it makes.
 */
static long sweep(const char *what, int (*op)(void), int no_memory)
{
    for (long n = 0; n < 100000; n++) {
        int status;

        failed = false;
        left = n;
        status = op();
        left = -1;
        if (status != (failed ? no_memory : 0))
            fail_msg("%s: allocation %ld fails: status %d", what, n, status);
        if (!failed)
            return n;
    }
    fail_msg("%s: no end", what);
    return 0;
}

/* ---- the engine ---------------------------------------------------------- */

static struct infer_model *model; /* what the operations below use */
static struct infer_team *team;

static int open_gguf(void)
{
    struct infer_gguf *g = NULL;
    const int status = infer_gguf_open(&g, tiny_path(), NULL);

    assert_true((status == 0) == (g != NULL));
    infer_gguf_close(g);
    return status;
}

static int load_model(void)
{
    struct infer_error err = {0};
    struct infer_model *m = NULL;
    const int status = infer_model_load(&m, tiny_path(), NULL, &err);

    assert_true((status == 0) == (m != NULL));
    assert_true(status == 0 || strstr(err.text, "emory"));
    if (m)
        assert_non_null(infer_model_info(m)->chat_template);
    infer_model_free(m);
    return status;
}

static int copy_file(void)
{
    char path[256];
    struct infer_gguf *g = NULL;
    struct infer_gguf_writer *w = NULL;
    int status = infer_gguf_open(&g, tiny_path(), NULL);

    snprintf(path, sizeof(path), "%s.copy", tiny_path());
    if (status == 0)
        status = infer_gguf_writer_create(&w, NULL);
    if (status == 0) {
        infer_gguf_set_all(w, g);
        for (size_t i = 0; i < infer_gguf_n_tensors(g); i++) {
            const struct infer_gguf_tensor *t = infer_gguf_tensor(g, i);

            infer_gguf_add_tensor(w, t->name, t->type, t->n_dims, t->dims,
                                  t->data);
        }
        status = infer_gguf_save(w, path, NULL);
    }
    infer_gguf_writer_free(w);
    infer_gguf_close(g);
    remove(path);
    return status;
}

static int encode(void)
{
    static const char text[] = "ab a b<|im_end|>xyz\xff\xe2\x96 ab abab";
    struct infer_tokens tokens = {0};
    const int status = infer_tokenize(model, text, sizeof(text) - 1, true, true,
                                      &tokens, NULL);

    assert_true((status == 0) == (tokens.ids != NULL));
    infer_tokens_release(&tokens);
    return status;
}

static int decode(void)
{
    static const int32_t ids[] = {3, 4, 5, 1};
    char *text = NULL;
    size_t len = 0;
    const int status = infer_detokenize(model, ids, 4, true, &text, &len, NULL);

    free(text);
    return status;
}

static int start_team(void)
{
    struct infer_team *t = NULL;
    const int status = infer_team_create(&t, 3, 0, NULL);

    infer_team_free(t);
    return status;
}

static int open_session(void)
{
    const struct infer_session_params p = {.n_seqs = 2, .max_rows = 4};
    const struct infer_row row = {.token = 1, .logits = true};
    struct infer_session *s = NULL;
    int status = infer_session_create(&s, model, team, &p, NULL);

    if (status == 0) {
        const long before = left;

        status = infer_session_eval(s, &row, 1, NULL, NULL);
        assert_int_equal(left, before); /* a pass allocates nothing */
    }
    infer_session_free(s);
    return status;
}

static void count_done(void *user, const struct infer_event *event)
{
    *(int *)user += event->request_done;
}

static int generate(void)
{
    static const char *const stop[] = {"xyz"};
    const struct infer_engine_params p = {.max_running = 2, .kv_tokens = 64};
    const int32_t prompt[] = {1, 3, 4, 5};
    struct infer_request r = {.prompt = prompt,
                              .n_prompt = 4,
                              .max_tokens = 8,
                              .n = 2,
                              .logprobs = 2,
                              .echo = true,
                              .stop = stop,
                              .n_stop = 1,
                              .on_event = count_done};
    struct infer_engine *e = NULL;
    int done = 0;
    int status = infer_engine_create(&e, model, team, &p, NULL);

    infer_sampling_default(&r.sampling);
    r.user = &done;
    if (status == 0)
        status = infer_engine_submit(e, &r, NULL);
    if (status == 0) {
        const long before = left;

        while (infer_engine_step(e) > 0)
            ;
        assert_int_equal(left, before); /* nor does a step */
        assert_int_equal(done, 1);
    }
    infer_engine_free(e);
    return status;
}

static void with_template(struct infer_gguf_writer *w)
{
    infer_gguf_set_str(w, "tokenizer.chat_template", "{{ messages }}");
    infer_gguf_set_str(w, "general.name", "tiny");
}

static void use(const char *arch)
{
    const struct tiny t = {
        .arch = arch, .type = INFER_Q8_0, .extra = with_template};

    tiny_write(tiny_path(), &t);
    assert_int_equal(infer_model_load(&model, tiny_path(), NULL, NULL), 0);
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
}

static void test_engine(void **state)
{
    static const struct {
        const char *what;
        int (*op)(void);
        long least; /* allocations, so that we know they were counted */
    } ops[] = {
        {"open", open_gguf, 8},       {"load", load_model, 25},
        {"copy", copy_file, 12},      {"encode", encode, 3},
        {"decode", decode, 1},        {"team", start_team, 4},
        {"session", open_session, 8}, {"generate", generate, 12},
    };

    (void)state;
    for (int k = 0; k < 2; k++) {
        const char *arch = k ? "gpt2" : "llama";

        use(arch);
        for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
            const long n = sweep(ops[i].what, ops[i].op, INFER_ENOMEM);

            print_message("%s, %s: %ld allocations\n", arch, ops[i].what, n);
            assert_true(n >= ops[i].least);
        }
        infer_team_free(team);
        infer_model_free(model);
    }
    tiny_clean();
}

/* ---- the server ---------------------------------------------------------- */

static int load_config(void)
{
    static const char *const argv[] = {
        "inferd",  "--model",        "a=/tmp/a.gguf",
        "--model", "b.gguf",         "--api-keys",
        "secret",  "--cors-origins", "http://x,http://y",
        NULL};
    static const char *const env[] = {"INFERD_MAX_RUNNING=3", NULL};
    enum config_action action;
    struct config c;
    struct keys keys = {0};
    struct infer_error err = {0};
    int status = config_load(&c, argv, env, &action, &err);

    if (status && !failed)
        fail_msg("%s", err.text);

    if (status == 0) {
        status = keys_init(&keys, &c, NULL);
        keys_release(&keys);
        config_release(&c);
    }
    return status;
}

static int read_config(void)
{
    static const char text[] =
        "{\"model\": [{\"name\": \"a\", \"path\": \"a.gguf\"}],"
        "\"api_keys\": [{\"name\": \"w\", \"key\": \"k\", \"models\": "
        "[\"a\"]}], \"listen\": \"127.0.0.1:1\"}";
    struct infer_error err = {0};
    struct config c;
    int status = config_init(&c, NULL);

    if (status == 0) {
        char copy[sizeof(text)];

        memcpy(copy, text, sizeof(text));
        status = config_read_text(&c, "test", copy, sizeof(text) - 1, &err);
        if (status && !failed)
            fail_msg("%s", err.text);
    }
    config_release(&c);
    return status;
}

static int check_json(void)
{
    static const char text[] = "{\"a\":[1,{\"b\":2,\"c\":3}],\"d\":\"e\"}";

    return json_check(text, sizeof(text) - 1, NULL);
}

/* A whole request body into a job; the status a client would get, 0: none. */
static int parse_request(void)
{
    static char text[] =
        "{\"prompt\":[\"ab\",\"b\"],\"stop\":[\"x\",\"yz\"],"
        "\"stop_token_ids\":[1,2],\"logit_bias\":{\"1\":2.5},\"n\":2}";
    static const struct infer_model_info info = {.n_vocab = 10};
    static const struct model_config m;
    struct worker w = {.config = &m, .info = &info, .n_ctx = 64};
    const struct buf body = {.data = text, .len = sizeof(text) - 1};
    struct problem p = {0};
    struct config c;
    struct job *job;
    cJSON *root;
    const long n = left;

    left = -1; /* of the configuration there is a test */
    assert_int_equal(config_init(&c, NULL), 0);
    left = n;
    job = job_create(JOB_GENERATE, &w);
    root = job ? params_parse(&body, &p) : NULL;
    if (root)
        params_generate(&c, root, job, &p);
    left = -1;
    cJSON_Delete(root);
    if (job)
        job_free(job);
    else
        p.status = 503;
    config_release(&c);
    if (p.status && (!failed || p.status != 503))
        fail_msg("%s", p.message);
    return (int)p.status;
}

static int grow_buffer(void)
{
    struct buf b = {0};
    int status;

    for (int i = 0; i < 100; i++)
        buf_printf(&b, "%d and some more text %s", i, "to fill it");
    status = b.failed ? INFER_ENOMEM : 0;
    buf_release(&b);
    return status;
}

static void test_server(void **state)
{
    cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = free};

    (void)state;
    cJSON_InitHooks(&hooks);
    assert_true(sweep("flags", load_config, INFER_ENOMEM) >= 6);
    assert_true(sweep("file", read_config, INFER_ENOMEM) >= 10);
    assert_true(sweep("JSON", check_json, INFER_ENOMEM) >= 1);
    assert_true(sweep("request", parse_request, 503) >= 20);
    assert_true(sweep("buffer", grow_buffer, INFER_ENOMEM) >= 1);
    cJSON_InitHooks(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine),
        cmocka_unit_test(test_server),
    };

    return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}

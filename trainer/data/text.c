/*
 * text.c - see text.h. One walk: file → documents → cleaned parts.
 *
 * Everything here may be hostile or a mistake: binary files, other encodings,
 * rows without the field. Each is refused with the file, the line and what to
 * do; nothing is dropped that the options did not ask to drop. Duplicates are
 * found by 128 bits of hash per document, so memory is bounded by the number
 * of documents, not by their text.
 */
#include "trainer/data/text.h"

#include "core/base/error.h"
#include "core/tokenizer/utf8.h"
#include "trainer/data/files.h"
#include "trainer/data/seen.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct walk {
    const struct train_text *t;
    train_part_fn *fn;
    void *user;
    struct train_text_stats *stats;
    bool sums; /* the caller wants files and checksums */
    struct train_seen seen;
    uint64_t n_docs; /* met, dropped ones too: what the split goes by */
    const char *path;
    struct infer_error *err;
};

/* A document as it lies in its file. */
struct doc {
    const char *text;
    size_t len;
    size_t line; /* of its first byte, from 1 */
    bool row;    /* of JSONL: its line breaks are not the file's */
    bool val;
};

static int fail_at(struct walk *w, size_t line, const char *what)
{
    return infer_fail(w->err, INFER_EFORMAT, "'%.100s' line %zu: %s", w->path,
                      line, what);
}

/* ---- cleaning -------------------------------------------------------------
 */

static size_t count_lines(const char *s, size_t n)
{
    size_t lines = 0;

    for (const char *end = s + n; (s = memchr(s, '\n', (size_t)(end - s))); s++)
        lines++;
    return lines;
}

/* Offset of the first byte that is not text; len: there is none. */
static size_t first_bad(const char *s, size_t len)
{
    uint32_t cp;

    for (size_t i = 0, n; i < len; i += n) {
        n = s[i] > 0 ? 1 : s[i] == 0 ? 0 : infer_utf8_next(s + i, len - i, &cp);
        if (n == 0)
            return i;
    }
    return len;
}

static int refuse(struct walk *w, const struct doc *d, const char *bad)
{
    const size_t line =
        d->line + (d->row ? 0 : count_lines(d->text, (size_t)(bad - d->text)));
    char what[128];

    if (*bad == 0)
        return fail_at(w, line,
                       "a zero byte, so this is no text; give UTF-8 text or "
                       "JSONL files");
    snprintf(what, sizeof(what),
             "byte 0x%02x is not UTF-8; convert the file (iconv -t utf-8) or "
             "pass --invalid replace",
             (unsigned)(unsigned char)*bad);
    return fail_at(w, line, what);
}

/* A copy with U+FFFD for each byte that is not UTF-8; malloc'd. */
static char *replace_bad(struct walk *w, const char *s, size_t *len)
{
    char *out = malloc(*len * 3 + 1);
    size_t used = 0;
    uint32_t cp;

    for (size_t i = 0, n; out && i < *len; i += n) {
        n = s[i] ? infer_utf8_next(s + i, *len - i, &cp) : 0;
        memcpy(out + used, n ? s + i : "\xef\xbf\xbd", n ? n : 3);
        used += n ? n : 3;
        w->stats->replaced += n == 0;
        n += n == 0;
    }
    *len = used;
    return out;
}

static bool all_ascii(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] < 0)
            return false;
    return true;
}

/* utf8proc's composition, of valid UTF-8; malloc'd, NULL: out of memory. */
static char *compose(enum train_normal form, const char *s, size_t *len)
{
    const unsigned options =
        (unsigned)UTF8PROC_STABLE | (unsigned)UTF8PROC_COMPOSE |
        (form == TRAIN_NORMAL_NFKC ? (unsigned)UTF8PROC_COMPAT : 0u);
    utf8proc_uint8_t *out = NULL;
    const utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)*len, &out,
                     (utf8proc_option_t)options);

    if (n < 0)
        return NULL;
    *len = (size_t)n;
    return (char *)out;
}

static int hand_out(struct walk *w, const struct doc *d, struct train_part part)
{
    char *fixed = NULL, *composed = NULL;
    const size_t bad = first_bad(part.text, part.len);
    int status = 0;

    if (bad < part.len) {
        if (w->t->invalid == TRAIN_INVALID_STOP || part.text[bad] == 0)
            return refuse(w, d, part.text + bad);
        fixed = replace_bad(w, part.text, &part.len);
        part.text = fixed;
        if (!fixed)
            goto no_memory;
    }
    if (w->t->normal != TRAIN_NORMAL_NONE && !all_ascii(part.text, part.len)) {
        composed =
            compose((enum train_normal)w->t->normal, part.text, &part.len);
        part.text = composed;
        if (!composed)
            goto no_memory;
    }
    w->stats->bytes += part.len;
    status = w->fn(w->user, &part, w->err);
    goto out;
no_memory:
    status = infer_fail(w->err, INFER_ENOMEM, "out of memory cleaning a text");
out:
    free(fixed);
    free(composed);
    return status;
}

/* ---- documents -------------------------------------------------------------
 */

/* Where the next part of s[0..len) ends: behind a newline, which no
 * normalisation reaches across, else between two characters. */
static size_t part_end(const char *s, size_t len)
{
    const char *newline;
    size_t n = TRAIN_PART;

    if (len <= TRAIN_PART)
        return len;
    newline = memrchr(s, '\n', n);
    if (newline)
        return (size_t)(newline - s) + 1;
    while (n > TRAIN_PART - 4 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static int each_part(struct walk *w, const struct doc *d)
{
    int status = 0;
    size_t at = 0;

    do {
        const size_t n = part_end(d->text + at, d->len - at);

        status = hand_out(w, d,
                          (struct train_part){.text = d->text + at,
                                              .len = n,
                                              .first = at == 0,
                                              .last = at + n == d->len,
                                              .val = d->val});
        at += n;
    } while (status == 0 && at < d->len);
    return status;
}

/* Should the options drop it? 1: yes; counted. */
static int dropped(struct walk *w, const struct doc *d)
{
    uint64_t *count = NULL;
    int status = 1;

    if (d->len < w->t->min_bytes) {
        count = &w->stats->short_docs;
    } else if (w->t->max_bytes && d->len > w->t->max_bytes) {
        count = &w->stats->long_docs;
    } else if (w->t->dedupe) {
        status = train_seen_add(&w->seen, d->text, d->len, w->err);
        count = &w->stats->duplicates;
    } else {
        status = 0;
    }
    if (status == 1)
        ++*count;
    return status;
}

static int one_doc(struct walk *w, struct doc *d)
{
    int status;

    if (d->len == 0)
        return 0;
    status = dropped(w, d);
    if (status != 0)
        return status < 0 ? status : 0;
    w->stats->docs++;
    return each_part(w, d);
}

/* Is the next document set apart? A fixed function of seed and number. */
static bool is_val(struct walk *w)
{
    uint64_t h = (w->t->seed + 1) * 0x9e3779b97f4a7c15u + w->n_docs++;

    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    h ^= h >> 31;
    return (double)(h >> 11) * 0x1p-53 < w->t->val_share;
}

/* ---- files -----------------------------------------------------------------
 */

/* The whole file is one document; its end, from a line on, is set apart. */
static int whole_file(struct walk *w, const struct train_map *map)
{
    const double share = w->t->val_share;
    size_t cut = (size_t)((double)map->size * (1.0 - share));
    struct doc train, val;
    int status;

    if (cut < map->size && share > 0.0) {
        const char *newline = memchr(map->data + cut, '\n', map->size - cut);

        cut = newline ? (size_t)(newline - map->data) + 1 : cut;
        while (!newline && cut > 0 &&
               ((unsigned char)map->data[cut] & 0xc0) == 0x80)
            cut--;
    } else if (share <= 0.0) {
        cut = map->size;
    }
    train = (struct doc){.text = map->data, .len = cut, .line = 1};
    status = one_doc(w, &train);
    if (status != 0 || cut == map->size)
        return status;
    val = (struct doc){.text = map->data + cut,
                       .len = map->size - cut,
                       .line = 1 + count_lines(map->data, cut),
                       .val = true};
    return one_doc(w, &val);
}

static bool blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i])
            return false;
    return true;
}

static size_t line_length(const char *s, size_t len)
{
    const char *newline = memchr(s, '\n', len);

    return newline ? (size_t)(newline - s) + 1 : len;
}

/* Documents of a file of lines: non-blank lines, or stretches of them. */
static int by_lines(struct walk *w, const struct train_map *map)
{
    const bool one = w->t->unit == TRAIN_UNIT_LINE;
    struct doc d = {.line = 1};
    size_t line = 1;
    int status = 0;

    for (size_t at = 0, n; status == 0 && at < map->size; at += n, line++) {
        const char *s = map->data + at;
        const bool empty = blank(s, n = line_length(s, map->size - at));

        if (!empty && d.len == 0)
            d = (struct doc){.text = s, .line = line};
        if (!empty)
            d.len += n;
        if (d.len && (one || empty || at + n == map->size)) {
            d.val = is_val(w);
            status = one_doc(w, &d);
            d.len = 0;
        }
    }
    return status;
}

/* "title, body": what a row has instead of the field. */
static void list_fields(const cJSON *row, char *out, size_t room)
{
    const cJSON *item;
    size_t used = 0;

    *out = '\0';
    cJSON_ArrayForEach (item, row) {
        const int n = snprintf(out + used, room - used, "%s%.30s",
                               used ? ", " : "", item->string);

        if (n < 0 || (size_t)n >= room - used)
            break;
        used += (size_t)n;
    }
}

static int one_row(struct walk *w, const char *s, size_t len, size_t line)
{
    const char *field = w->t->field ? w->t->field : "text";
    cJSON *row = cJSON_ParseWithLength(s, len);
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(row, field);
    char what[160], fields[72];
    int status;

    if (!cJSON_IsObject(row)) {
        status = fail_at(w, line,
                         "not a JSON object; each line of a .jsonl file has to "
                         "be one, like {\"text\": \"...\"}");
    } else if (!text) {
        list_fields(row, fields, sizeof(fields));
        snprintf(what, sizeof(what),
                 "no field '%.30s' (it has: %s); name the text with --field",
                 field, fields);
        status = fail_at(w, line, what);
    } else if (!cJSON_IsString(text)) {
        snprintf(what, sizeof(what), "field '%.30s' is not a string", field);
        status = fail_at(w, line, what);
    } else {
        struct doc d = {.text = text->valuestring,
                        .len = strlen(text->valuestring),
                        .line = line,
                        .row = true,
                        .val = is_val(w)};

        status = one_doc(w, &d);
    }
    cJSON_Delete(row);
    return status;
}

static int by_rows(struct walk *w, const struct train_map *map)
{
    size_t line = 1;
    int status = 0;

    for (size_t at = 0, n; status == 0 && at < map->size; at += n, line++) {
        n = line_length(map->data + at, map->size - at);
        if (!blank(map->data + at, n))
            status = one_row(w, map->data + at, n, line);
    }
    return status;
}

static int note_file(struct walk *w, const struct train_map *map)
{
    struct train_text_stats *stats = w->stats;
    struct train_text_file *files, *file;
    struct train_sha256 sum;

    files = realloc(stats->files, (stats->n_files + 1) * sizeof(*files));
    if (!files)
        return infer_fail(w->err, INFER_ENOMEM, "out of memory");
    stats->files = files;
    file = &files[stats->n_files];
    *file =
        (struct train_text_file){.path = strdup(w->path), .bytes = map->size};
    if (!file->path)
        return infer_fail(w->err, INFER_ENOMEM, "out of memory");
    stats->n_files++;
    train_sha256_init(&sum);
    train_sha256_update(&sum, map->data, map->size);
    train_sha256_finish(&sum, file->sha256);
    return 0;
}

static int one_file(struct walk *w, const char *path)
{
    struct train_map map = {"", 0};
    int status = train_map_open(&map, path, w->err);

    w->path = path;
    if (status == 0 && w->sums)
        status = note_file(w, &map);
    if (status != 0)
        goto out;
    if (train_file_is_jsonl(path))
        status = by_rows(w, &map);
    else if (w->t->unit == TRAIN_UNIT_FILE)
        status = whole_file(w, &map);
    else
        status = by_lines(w, &map);
out:
    train_map_close(&map);
    return status;
}

int train_text_each(const struct train_text *t, train_part_fn *fn, void *user,
                    struct train_text_stats *stats, struct infer_error *err)
{
    struct train_text_stats own = {0};
    struct walk w = {.t = t,
                     .fn = fn,
                     .user = user,
                     .stats = stats ? stats : &own,
                     .sums = stats != NULL,
                     .err = err};
    struct train_list files = {0};
    int status = train_files_expand(&t->paths, &files, err);

    for (size_t i = 0; i < files.n && status == 0; i++)
        status = one_file(&w, files.items[i]);
    if (status == 0 && w.stats->bytes == 0)
        status = infer_fail(
            err, INFER_EINVAL, "'%.100s' holds no text%s", t->paths.items[0],
            w.n_docs || w.stats->short_docs || w.stats->long_docs
                ? " that the filters leave; relax --min-bytes and --max-bytes"
                : "; give files that are not empty");
    train_files_release(&files);
    train_seen_release(&w.seen);
    train_text_stats_release(&own);
    return status;
}

void train_text_stats_release(struct train_text_stats *stats)
{
    for (size_t i = 0; i < stats->n_files; i++)
        free(stats->files[i].path);
    free(stats->files);
    stats->files = NULL;
    stats->n_files = 0;
}

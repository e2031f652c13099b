/*
 * web.c - the files of server/web, inside the binary: the pages work wherever
 * the program does, offline too, and always match it. The assembler copies
 * them, as openapi.c has it; the Makefile sums them up, since neither a
 * compiler cache nor an ETag would see a change otherwise.
 */
#include "server/web.h"

#include <string.h>

#define TEXT2(x) #x
#define TEXT(x)  TEXT2(x)

#define WEB(symbol, name, type)                                                \
    __asm__(".section .rodata\n"                                               \
            ".global web_" #symbol "\n"                                        \
            ".global web_" #symbol "_end\n"                                    \
            "web_" #symbol ":\n"                                               \
            ".incbin \"server/web/" name "\"\n"                                \
            "web_" #symbol "_end:\n"                                           \
            ".byte 0\n"                                                        \
            ".text\n");                                                        \
    extern const char web_##symbol[], web_##symbol##_end[];
#include "server/web_files.def"
#undef WEB

static const struct web_file files[] = {
#define WEB(symbol, name, type) {name, type, web_##symbol, web_##symbol##_end},
#include "server/web_files.def"
#undef WEB
};

const char web_etag[] = "\"" TEXT(WEB_SUM) "\"";

const struct web_file *web_find(const char *name)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

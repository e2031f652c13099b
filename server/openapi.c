/*
 * openapi.c - openapi.yaml, inside the binary, so that /openapi.yaml is always
 * the contract of the very program that serves it. The assembler copies the
 * file; the compiler runs in the project's root.
 */
#include "server/openapi.h"

__asm__(".section .rodata\n"
        ".global openapi_text\n"
        ".global openapi_end\n"
        "openapi_text:\n"
        ".incbin \"openapi.yaml\"\n"
        "openapi_end:\n"
        ".byte 0\n"
        ".text\n");

/* commit.c - what the sources were when infer-train was built; the Makefile
 * tells. A file of its own, so that a commit compiles nothing else again. */
extern const char train_commit[];

const char train_commit[] = TRAIN_COMMIT;

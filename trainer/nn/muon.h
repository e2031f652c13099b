/*
 * muon.h - Muon's step for one matrix (Jordan et al. 2024,
 * https://kellerjordan.github.io/posts/muon/).
 */
#ifndef TRAINER_NN_MUON_H
#define TRAINER_NN_MUON_H

#include "trainer/nn/layers.h"
#include "trainer/nn/net.h"

struct muon_work; /* room for the largest matrix of a table, per member */

int muon_create(struct muon_work **w, const struct net_param *table, size_t n,
                int n_members, struct infer_error *err);
void muon_free(struct muon_work *w);

/*
 * One member does all of it: w [out][in] moves by u->lr along the
 * orthogonalized momentum m [out][in] of the gradient g.
 *
 * Cost  5 (4 a^2 b + 2 a^3) operations, a <= b its sides
 */
void muon_step(const struct infer_member *me, const struct muon_work *work,
               const struct train_gemm_ctx *gemm, const struct net_param *p,
               float *w, float *m, const float *g, const struct nn_update *u);

#endif

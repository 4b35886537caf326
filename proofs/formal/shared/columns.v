(* Probability vectors as columns of S, inside a section with S, S_ge0 and S_sum: their inner products G. *)

Definition G : 'M[R]_n := S^T *m S.
Definition overlap i : R := \sum_(j | j != i) G i j.

Lemma G_E i j : G i j = \sum_k S k i * S k j.
Proof. by rewrite mxE; apply: eq_bigr => k _; rewrite mxE. Qed.

Lemma G_sym i j : G i j = G j i.
Proof. by rewrite !G_E; apply: eq_bigr => k _; rewrite mulrC. Qed.

Lemma G_ge0 i j : 0 <= G i j.
Proof. by rewrite G_E sumr_ge0 // => k _; rewrite mulr_ge0. Qed.

Lemma S_le1 k j : S k j <= 1.
Proof.
rewrite -(S_sum j) (bigD1 k) //= ler_addl.
by rewrite sumr_ge0.
Qed.

Lemma diag_le1 i : G i i <= 1.
Proof.
rewrite G_E -(S_sum i); apply: ler_sum => k _.
by rewrite ler_pimulr // S_le1.
Qed.

(* sum_k (s_k - 1/n)^2 >= 0 *)
Lemma diag_ge i : n%:R^-1 <= G i i.
Proof.
have n0 : (n%:R : R) != 0 by rewrite pnatr_eq0 -lt0n (leq_ltn_trans _ (ltn_ord i)).
have : 0 <= \sum_k (S k i - n%:R^-1) ^+ 2 by rewrite sumr_ge0 // => k _; rewrite sqr_ge0.
have mean : \sum_k (S k i * n%:R^-1 *+ 2 - n%:R^-1 ^+ 2) = n%:R^-1.
  rewrite sumrB sumrMnl -mulr_suml S_sum mul1r sumr_const card_ord.
  by rewrite -[_ ^+ 2 *+ n]mulr_natr expr2 -mulrA mulVf // mulr1 mulr2n addrK.
suff -> : \sum_k (S k i - n%:R^-1) ^+ 2 = G i i - n%:R^-1 by rewrite subr_ge0.
rewrite -[in RHS]mean G_E -sumrB; apply: eq_bigr => k _.
by rewrite sqrrB expr2 opprB addrA addrAC.
Qed.

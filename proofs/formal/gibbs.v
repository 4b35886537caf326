(* The softmax is the Gibbs state: it alone minimises the free energy, and the excess of any other
   distribution is T times its divergence from the softmax.

   Classes 0 .. N, energies E k = - z k, temperature T > 0,
     p k = exp (- E k / T) / Z,     F q = sum q k E k + T sum q k ln (q k),
     KL q = sum q k (ln (q k) - ln (p k)).
   Coq's ln is 0 at 0, so a term with q k = 0 is 0, as usual. *)

Require Import Reals Lra Lia.
Open Scope R_scope.

Section Gibbs.
Variables (N : nat) (E : nat -> R) (T : R).
Hypothesis T_pos : 0 < T.

Definition weight (k : nat) : R := exp (- E k / T).
Definition Z : R := sum_f_R0 weight N.
Definition p (k : nat) : R := weight k / Z.

Definition distribution (q : nat -> R) : Prop :=
  (forall k, (k <= N)%nat -> 0 <= q k) /\ sum_f_R0 q N = 1.

Definition F (q : nat -> R) : R :=
  sum_f_R0 (fun k => q k * E k) N + T * sum_f_R0 (fun k => q k * ln (q k)) N.
Definition KL (q : nat -> R) : R := sum_f_R0 (fun k => q k * (ln (q k) - ln (p k))) N.

Lemma sum_pos (f : nat -> R) n : (forall k, (k <= n)%nat -> 0 < f k) -> 0 < sum_f_R0 f n.
Proof.
  induction n as [|n IH]; intros h; simpl; [apply h; lia|].
  assert (0 < sum_f_R0 f n) by (apply IH; intros k hk; apply h; lia).
  assert (0 < f (S n)) by (apply h; lia). lra.
Qed.

Lemma sum_ge0 (f : nat -> R) n : (forall k, (k <= n)%nat -> 0 <= f k) -> 0 <= sum_f_R0 f n.
Proof.
  induction n as [|n IH]; intros h; simpl; [apply h; lia|].
  assert (0 <= sum_f_R0 f n) by (apply IH; intros k hk; apply h; lia).
  assert (0 <= f (S n)) by (apply h; lia). lra.
Qed.

Lemma Z_pos : 0 < Z.
Proof. apply sum_pos; intros k _; apply exp_pos. Qed.

Lemma p_pos k : 0 < p k.
Proof. apply Rdiv_lt_0_compat; [apply exp_pos | exact Z_pos]. Qed.

Lemma p_distribution : distribution p.
Proof.
  split; [intros k _; left; apply p_pos|].
  unfold p, Rdiv. rewrite <- scal_sum. fold Z. rewrite Rmult_comm.
  apply Rinv_r. pose proof Z_pos. lra.
Qed.

Lemma ln_p k : ln (p k) = - E k / T - ln Z.
Proof.
  unfold p, Rdiv at 1. pose proof Z_pos. rewrite ln_mult;
    [| apply exp_pos | apply Rinv_0_lt_compat; assumption].
  rewrite ln_Rinv by assumption. unfold weight. rewrite ln_exp. reflexivity.
Qed.

(* F q = T KL q - T ln Z *)
Lemma free_energy_by_divergence q : sum_f_R0 q N = 1 -> F q = T * KL q - T * ln Z.
Proof.
  intros hq. unfold F, KL.
  assert (sum_f_R0 (fun k => q k * (ln (q k) - ln (p k))) N =
          sum_f_R0 (fun k => q k * ln (q k)) N + sum_f_R0 (fun k => q k * E k) N / T + ln Z) as ->.
  { replace (ln Z) with (sum_f_R0 (fun k => q k * ln Z) N) at 1.
    2:{ rewrite <- scal_sum, hq. ring. }
    unfold Rdiv. rewrite (Rmult_comm _ (/ T)), scal_sum, <- !plus_sum.
    apply sum_eq; intros k _. rewrite ln_p. field. lra. }
  field. lra.
Qed.

Lemma KL_p : KL p = 0.
Proof.
  unfold KL. rewrite <- (sum_eq (fun k => 0)); [|intros k _; ring].
  clear T_pos. induction N as [|n IH]; simpl; [reflexivity|rewrite IH; ring].
Qed.

Theorem excess q : distribution q -> F q - F p = T * KL q.
Proof.
  intros [_ hq]. pose proof p_distribution as [_ hp].
  rewrite !free_energy_by_divergence by assumption. rewrite KL_p. ring.
Qed.

Theorem least_free_energy : F p = - T * ln Z.
Proof.
  pose proof p_distribution as [_ hp].
  rewrite free_energy_by_divergence by assumption. rewrite KL_p. ring.
Qed.

Lemma exp_ln_ratio a b : 0 < a -> 0 < b -> exp (ln b - ln a) = b / a.
Proof. intros ha hb. unfold Rminus, Rdiv. rewrite exp_plus, exp_Ropp, !exp_ln; auto. Qed.

(* ln x <= x - 1 with equality at 1 alone, for x = p / q *)
Lemma term_ge a b : 0 <= a -> 0 < b -> a - b <= a * (ln a - ln b).
Proof.
  intros [ha|ha] hb; [|subst; lra].
  pose proof (exp_ineq1_le (ln b - ln a)) as h.
  rewrite exp_ln_ratio in h by assumption.
  apply Rmult_le_compat_l with (r := a) in h; [|lra].
  replace (a * (b / a)) with b in h by (field; lra). lra.
Qed.

Lemma term_gt a b : 0 <= a -> 0 < b -> a <> b -> a - b < a * (ln a - ln b).
Proof.
  intros [ha|ha] hb ne; [|subst; lra].
  assert (ln b - ln a <> 0).
  { intros e. apply ne. apply ln_inv; [assumption..|]. lra. }
  pose proof (exp_ineq1 (ln b - ln a) H) as h.
  rewrite exp_ln_ratio in h by assumption.
  apply Rmult_lt_compat_l with (r := a) in h; [|assumption].
  replace (a * (b / a)) with b in h by (field; lra). lra.
Qed.

Lemma KL_as_sum q : distribution q ->
  KL q = sum_f_R0 (fun k => q k * (ln (q k) - ln (p k)) - (q k - p k)) N.
Proof.
  intros [_ hq]. pose proof p_distribution as [_ hp].
  unfold KL. rewrite minus_sum. rewrite (minus_sum q p), hq, hp. ring.
Qed.

Theorem divergence_ge0 q : distribution q -> 0 <= KL q.
Proof.
  intros d. rewrite KL_as_sum by exact d. destruct d as [h _].
  apply sum_ge0; intros k hk.
  pose proof (term_ge (q k) (p k) (h k hk) (p_pos k)). lra.
Qed.

Theorem minimiser q : distribution q -> F p <= F q.
Proof.
  intros d. pose proof (excess q d). pose proof (divergence_ge0 q d).
  assert (0 <= T * KL q) by (apply Rmult_le_pos; lra). lra.
Qed.

Lemma sum_zero (f : nat -> R) n : (forall k, (k <= n)%nat -> 0 <= f k) -> sum_f_R0 f n = 0 ->
  forall k, (k <= n)%nat -> f k = 0.
Proof.
  induction n as [|n IH]; simpl; intros h e k hk.
  - replace k with 0%nat by lia. exact e.
  - assert (0 <= sum_f_R0 f n) by (apply sum_ge0; intros j hj; apply h; lia).
    assert (0 <= f (S n)) by (apply h; lia).
    destruct (Nat.eq_dec k (S n)) as [->|ne]; [lra|].
    apply IH; [intros j hj; apply h; lia | lra | lia].
Qed.

Theorem unique_minimiser q : distribution q -> F q = F p -> forall k, (k <= N)%nat -> q k = p k.
Proof.
  intros d e. pose proof (excess q d) as h.
  assert (KL q = 0) as z by (apply (Rmult_eq_reg_l T); lra).
  rewrite KL_as_sum in z by exact d. destruct d as [pos _]. intros k hk.
  assert (q k * (ln (q k) - ln (p k)) - (q k - p k) = 0) as t.
  { refine (sum_zero (fun j => q j * (ln (q j) - ln (p j)) - (q j - p j)) N _ z k hk). intros j hj.
    pose proof (term_ge (q j) (p j) (pos j hj) (p_pos j)). lra. }
  destruct (Req_dec (q k) (p k)) as [same|other]; [exact same|].
  pose proof (term_gt (q k) (p k) (pos k hk) (p_pos k) other). lra.
Qed.

End Gibbs.

Print Assumptions unique_minimiser.

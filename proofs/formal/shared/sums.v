(* Finite sums of real numbers. *)

Require Import Reals Lra Lia.
Open Scope R_scope.

(* The sum of f k over k < n. *)
Fixpoint sum (n : nat) (f : nat -> R) : R :=
  match n with O => 0 | S m => sum m f + f m end.

Lemma sum_ext n f g : (forall k, (k < n)%nat -> f k = g k) -> sum n f = sum n g.
Proof. induction n; simpl; intros h; [reflexivity|]. rewrite IHn, (h n); auto. Qed.

Lemma sum_le n f g : (forall k, (k < n)%nat -> f k <= g k) -> sum n f <= sum n g.
Proof.
  induction n; simpl; intros h; [lra|].
  pose proof (h n ltac:(lia)). specialize (IHn (fun k hk => h k ltac:(lia))). lra.
Qed.

Lemma sum_plus n f g : sum n (fun k => f k + g k) = sum n f + sum n g.
Proof. induction n; simpl; [|rewrite IHn]; ring. Qed.

Lemma sum_minus n f g : sum n (fun k => f k - g k) = sum n f - sum n g.
Proof. induction n; simpl; [|rewrite IHn]; ring. Qed.

Lemma sum_scal n a f : sum n (fun k => a * f k) = a * sum n f.
Proof. induction n; simpl; [|rewrite IHn]; ring. Qed.

Lemma sum_const n a : sum n (fun _ => a) = INR n * a.
Proof. induction n; [simpl; ring|]. rewrite S_INR. simpl. rewrite IHn. ring. Qed.

Lemma sum_swap n m f :
  sum n (fun i => sum m (fun j => f i j)) = sum m (fun j => sum n (fun i => f i j)).
Proof.
  induction n; simpl.
  - rewrite sum_const. ring.
  - rewrite IHn, <- sum_plus. reflexivity.
Qed.

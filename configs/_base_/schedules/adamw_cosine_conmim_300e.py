# ConMIM's AdamW, 300 epochs, cosine to 1e-5 after 5 epochs of warm-up. Learning rate,
# warm-up and no clipping are the defaults of its code; that they are meant for the
# effective batch of 2048, which is known of ViT-L, is a choice.
_base_ = 'adamw_cosine_300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=None)
warm_up = {**_base_.warm_up, 'end': 5}
cosine = {**_base_.cosine, 'begin': 5}
param_scheduler = [warm_up, cosine]

mod forgery;
mod life;
mod replay;

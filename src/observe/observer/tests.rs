mod forgery;
mod life;
mod replay;
mod scene;
